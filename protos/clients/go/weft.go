// Package weft calls a mesh through its gateway as its contracts say: deadlines, repetitions, request ids, tokens.
//
//	mesh, err := weft.Dial("localhost:8080", weft.Options{Client: "shop/1.4", Email: email, Password: password})
//	defer mesh.Close()
//	mug, err := catalogv1.NewCatalogServiceClient(mesh).GetProduct(ctx, &catalogv1.GetProductRequest{Name: "products/mug"})
//	if weft.RefusalOf(err).Reason == "PRODUCT_NOT_FOUND" { ... }
package weft

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"weft.client/go/gen"
	"weft.client/go/gen/weft/options/v1"
)

const (
	attemptsMax = 5 // gRPC allows no more
	pauseFirst  = 100 * time.Millisecond
	pauseMax    = 2 * time.Second
)

// Options say who calls.
type Options struct {
	Client          string // what the program is called at the services, name/version
	Email, Password string // who signs in where a method asks for a token
	Token           func(context.Context) (string, error)
	TLS             *tls.Config // nil: in clear, for this machine alone
}

// Dial opens a channel to the gateway; the first call connects, and signs in where it has to.
func Dial(address string, options Options) (*grpc.ClientConn, error) {
	if options.Client == "" {
		options.Client = "weft-client"
	}
	caller := &caller{options: options}
	secured := insecure.NewCredentials()
	if options.TLS != nil {
		secured = credentials.NewTLS(options.TLS)
	}
	conn, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(secured),
		grpc.WithUnaryInterceptor(caller.unary),
		grpc.WithStreamInterceptor(caller.stream),
		grpc.WithDisableServiceConfig(),
	)
	if err == nil && options.Email != "" {
		caller.session = &session{
			conn: conn, email: options.Email, password: options.Password, turn: make(chan struct{}, 1),
		}
	}
	return conn, err
}

type caller struct {
	options   Options
	session   *session
	readToken atomic.Value
}

func (caller *caller) unary(
	ctx context.Context, path string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	method := methodOf(path)
	ctx, cancel := method.within(ctx)
	defer cancel()
	request = method.withRequestID(request)
	renewed := false
	for attempt := 1; ; attempt++ {
		going, token, err := caller.outgoing(ctx, method)
		if err != nil {
			return err
		}
		var header metadata.MD
		err = invoke(going, path, request, reply, conn, append(options, grpc.Header(&header))...)
		if err == nil {
			if newest := header.Get("x-weft-read-token"); len(newest) > 0 {
				caller.readToken.Store(newest[0])
			}
			return nil
		}
		refusal := RefusalOf(err)
		if !renewed && refusal.stale() && caller.session.drop(token) {
			renewed = true
			continue
		}
		pause, worth := method.pause(refusal, attempt)
		end, limited := ctx.Deadline()
		if !worth || limited && time.Now().Add(pause).After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

func (caller *caller) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, path string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	going, _, err := caller.outgoing(ctx, methodOf(path))
	if err != nil {
		return nil, err
	}
	return open(going, desc, conn, path, options...)
}

// outgoing adds what goes with every call. A caller's own traceparent and authorization are left alone.
func (caller *caller) outgoing(ctx context.Context, method method) (context.Context, string, error) {
	said := []string{"x-weft-client", caller.options.Client + "; contract=" + gen.Contract}
	if newest, ok := caller.readToken.Load().(string); ok {
		said = append(said, "x-weft-read-token", newest)
	}
	own, _ := metadata.FromOutgoingContext(ctx)
	token, err := "", error(nil)
	if !method.public && len(own.Get("authorization")) == 0 {
		if caller.options.Token != nil {
			token, err = caller.options.Token(ctx)
		} else if caller.session != nil {
			token, err = caller.session.token(ctx)
		}
	}
	if token != "" {
		said = append(said, "authorization", "Bearer "+token)
	}
	return metadata.AppendToOutgoingContext(ctx, said...), token, err
}

// method is what a contract says of a call, as far as a caller goes by it.
type method struct {
	public   bool
	timeout  time.Duration // zero: none
	attempts int           // in all, where a failed one may have had an effect
}

func methodOf(path string) method {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	descriptor, isMethod := found.(protoreflect.MethodDescriptor)
	if err != nil || !isMethod {
		return method{attempts: 1}
	}
	own, _ := proto.GetExtension(descriptor.Options(), optionsv1.E_Policy).(*optionsv1.MethodPolicy)
	above, _ := proto.GetExtension(descriptor.Parent().Options(), optionsv1.E_Defaults).(*optionsv1.MethodPolicy)
	access, timeout, retry := above, above.GetTimeout(), above.GetRetry()
	if own.GetPublic() || len(own.GetScopes()) > 0 {
		access = own
	}
	if own.GetTimeout() != nil {
		timeout = own.GetTimeout()
	}
	if own.GetRetry() != nil {
		retry = own.GetRetry()
	}
	return method{access.GetPublic(), timeout.AsDuration(), max(1, int(retry.GetMaxAttempts()))}
}

// within bounds a call by its contract; a caller's own deadline wins.
func (method method) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, said := ctx.Deadline(); said || method.timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, method.timeout)
}

// withRequestID gives a request an id of its own where it has one and the caller did not say it (AIP-155).
func (method) withRequestID(request any) any {
	message, ok := request.(proto.Message)
	if !ok {
		return request
	}
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind || message.ProtoReflect().Has(field) {
		return request
	}
	filled := proto.Clone(message)
	filled.ProtoReflect().Set(field, protoreflect.ValueOfString(uuid.NewString()))
	return filled
}

// pause is how long to wait before the next attempt, and whether there is one. The rules are those of the Python client.
func (method method) pause(refusal Refusal, attempt int) (time.Duration, bool) {
	switch refusal.Code {
	case codes.ResourceExhausted:
		return refusal.RetryAfter, refusal.Waits && attempt < attemptsMax
	case codes.Aborted:
		return refusal.RetryAfter, refusal.Waits && attempt < method.attempts
	case codes.Unavailable:
		if refusal.Waits {
			return refusal.RetryAfter, attempt < method.attempts
		}
		whole := min(pauseMax, pauseFirst<<(attempt-1))
		return whole/2 + rand.N(whole/2), attempt < method.attempts
	}
	return 0, false
}
