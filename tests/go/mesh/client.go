package mesh

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // the xds:/// resolver, which reads GRPC_XDS_BOOTSTRAP
)

const (
	// The retry throttle of gRFC A6, with the figures of the mesh's other callers.
	tokensMax   = 40.0
	tokenRatio  = 0.1
	pauseFirst  = 20 * time.Millisecond
	pauseMax    = 200 * time.Millisecond
	pingEvery   = 10 * time.Second // grpc-go pings no more often
	pingTimeout = time.Second
)

// Open opens a channel to a service. Where its instances are comes from the control planes of the bootstrap file.
func Open(service string) (*grpc.ClientConn, error) {
	throttle := &throttle{tokens: tokensMax}
	return grpc.NewClient(
		"xds:///"+service,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true,
		}),
		grpc.WithUnaryInterceptor(throttle.call),
		grpc.WithNoProxy(),
	)
}

// WithToken has calls carry an access token.
func WithToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// throttle repeats calls of one channel as the contract says, and no longer than somebody answers.
type throttle struct {
	lock   sync.Mutex
	tokens float64
}

func (throttle *throttle) call(
	ctx context.Context,
	method string,
	request, reply any,
	conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	policy, _ := PolicyOf(method)
	if policy.Timeout > 0 { // a caller's own shorter deadline wins
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, policy.Timeout)
		defer cancel()
	}
	for attempt := 1; ; attempt++ {
		err := invoke(ctx, method, request, reply, conn, options...)
		if status.Code(err) != codes.Unavailable {
			throttle.answered()
			return err
		}
		if !throttle.failed() || attempt >= policy.Attempts {
			return err
		}
		pause := min(pauseMax, pauseFirst<<(attempt-1))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func (throttle *throttle) answered() {
	throttle.lock.Lock()
	defer throttle.lock.Unlock()
	throttle.tokens = min(tokensMax, throttle.tokens+tokenRatio)
}

func (throttle *throttle) failed() bool {
	throttle.lock.Lock()
	defer throttle.lock.Unlock()
	throttle.tokens = max(0, throttle.tokens-1)
	return throttle.tokens > tokensMax/2
}
