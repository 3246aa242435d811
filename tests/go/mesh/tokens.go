package mesh

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Verifier is the second wall behind the gateway: it checks every token again, by the keys that identity publishes.
type Verifier struct {
	keys   atomic.Pointer[keyfunc.Keyfunc]
	loaded chan struct{}
	once   sync.Once
	parser *jwt.Parser
}

type claims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// NewVerifier verifies nothing before the first set of keys.
func NewVerifier() *Verifier {
	return &Verifier{
		loaded: make(chan struct{}),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"ES256"}),
			jwt.WithIssuer("weft-identity"),
			jwt.WithAudience("weft"),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithStrictDecoding(),
		),
	}
}

// Take takes the document `jwks`. A broken one changes nothing: the last good set keeps serving.
func (verifier *Verifier) Take(document []byte) {
	keys, err := keyfunc.NewJWKSetJSON(json.RawMessage(document))
	if err != nil {
		slog.Error("keys refused", "error", err)
		return
	}
	verifier.keys.Store(&keys)
	verifier.once.Do(func() { close(verifier.loaded) })
}

// Loaded is closed once there are keys. An instance that cannot check a token is not worth being found.
func (verifier *Verifier) Loaded() <-chan struct{} { return verifier.loaded }

// Admit refuses whom the contract does not let in: a method that is not public asks for a token with one of its scopes.
func (verifier *Verifier) Admit(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	policy, known := PolicyOf(info.FullMethod)
	if !known || policy.Public { // not of a contract: health, load reports
		return handle(ctx, request)
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return nil, refusal(codes.Unauthenticated, "A token is required.", "TOKEN_MISSING")
	}
	token, isBearer := strings.CutPrefix(values[0], "Bearer ")
	keys := verifier.keys.Load()
	if len(values) > 1 || !isBearer || keys == nil {
		return nil, refusal(codes.Unauthenticated, "The token is not valid.", "TOKEN_INVALID")
	}
	var said claims
	parsed, err := verifier.parser.ParseWithClaims(token, &said, (*keys).Keyfunc)
	if err != nil || parsed.Header["typ"] != "at+jwt" {
		return nil, refusal(codes.Unauthenticated, "The token is not valid.", "TOKEN_INVALID")
	}
	for _, scope := range strings.Fields(said.Scope) {
		if slices.Contains(policy.Scopes, scope) {
			return handle(ctx, request)
		}
	}
	return nil, refusal(codes.PermissionDenied, "The token lacks a scope this method asks for.", "SCOPE_MISSING")
}

func refusal(code codes.Code, text, reason string) error {
	told, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "weft"})
	if err != nil {
		return status.Error(code, text)
	}
	return told.Err()
}
