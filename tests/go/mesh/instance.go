package mesh

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

const (
	// A client that has acknowledged has not yet told all its threads.
	settle = 200 * time.Millisecond
	// The longest timeout of a unary method and a little.
	grace = 6 * time.Second
	flush = 2 * time.Second
	// Gateways ping twice a second to notice a hung instance; half of that leaves room for jitter. Without this grpc-go
	// takes them for an attack and closes the connection.
	pingsNoSooner = 250 * time.Millisecond
)

// Serve is an instance of a service from start to end: it returns after SIGTERM or SIGINT, when everything is done.
//
// It is found last and leaves first, so that no call fails: keys, port, registry, health; and back.
func Serve(service string, settings Settings, add func(grpc.ServiceRegistrar)) error {
	stopping, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer restore()
	endTraces, err := Trace(service, settings.Instance, settings.Collector)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), flush)
		defer cancel()
		if err := endTraces(ctx); err != nil {
			slog.Warn("last spans not sent", "error", err)
		}
	}()
	registry, err := OpenRegistry(stopping, settings)
	if err != nil {
		return err
	}
	verifier := NewVerifier()
	registry.Follow("jwks", verifier.Take)

	listener, err := net.Listen("tcp", settings.Listen)
	if err != nil {
		return err
	}
	load := watchLoad(stopping)
	checks := health.NewServer()
	server := grpc.NewServer(
		load.perCall(), // first, as orca asks
		grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(filters.Not(filters.HealthCheck())))),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingsNoSooner, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(load.count, obeyDeadline, verifier.Admit),
	)
	grpc_health_v1.RegisterHealthServer(server, checks)
	add(server)
	checks.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(listener) }()

	select {
	case <-verifier.Loaded():
	case <-stopping.Done():
		server.Stop()
		return nil
	case err := <-serving:
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	err = registry.Register(Endpoint{
		Service:   service,
		Instance:  settings.Instance,
		Address:   address.IP.String(),
		Port:      address.Port,
		StartTime: time.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return err
	}
	defer registry.Close()
	checks.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	slog.Info("serving", "port", address.Port)

	select {
	case <-stopping.Done():
	case err := <-serving:
		return err
	}
	checks.Shutdown() // NOT_SERVING from now on, whatever is set
	registry.Leave()
	time.Sleep(settle)
	end(server)
	slog.Info("stopped")
	return nil
}

// end lets calls finish, and ends what is still there when none can be any more.
func end(server *grpc.Server) {
	late := time.AfterFunc(grace, server.Stop)
	defer late.Stop()
	server.GracefulStop()
}

// obeyDeadline gives up on a call when its contract does; a caller's own shorter deadline wins.
func obeyDeadline(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if policy, known := PolicyOf(info.FullMethod); known && policy.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, policy.Timeout)
		defer cancel()
	}
	return handle(ctx, request)
}
