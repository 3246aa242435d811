package weft

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusal is what a program tests of an error that the mesh gave.
type Refusal struct {
	Code       codes.Code
	Reason     string // constant of the contract, PRODUCT_NOT_FOUND; empty where nobody gave one
	Message    string
	Metadata   map[string]string
	Fields     []*errdetails.BadRequest_FieldViolation
	States     []*errdetails.PreconditionFailure_Violation
	RetryAfter time.Duration
	Waits      bool // the mesh said when to come back
}

// RefusalOf reads an error of a call; of nil it is the zero Refusal, whose code is OK.
func RefusalOf(err error) Refusal {
	told := status.Convert(err)
	refusal := Refusal{Code: told.Code(), Message: told.Message()}
	for _, detail := range told.Details() {
		switch said := detail.(type) {
		case *errdetails.ErrorInfo:
			refusal.Reason, refusal.Metadata = said.GetReason(), said.GetMetadata()
		case *errdetails.BadRequest:
			refusal.Fields = said.GetFieldViolations()
		case *errdetails.PreconditionFailure:
			refusal.States = said.GetViolations()
		case *errdetails.RetryInfo:
			refusal.RetryAfter, refusal.Waits = said.GetRetryDelay().AsDuration(), true
		}
	}
	return refusal
}

// stale tells whether another token may help: this one was good when it was issued.
func (refusal Refusal) stale() bool {
	switch refusal.Reason {
	case "TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED":
		return refusal.Code == codes.Unauthenticated
	}
	return false
}
