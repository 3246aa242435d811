package mesh

import (
	"context"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/orca"
)

const measureEvery = time.Second

// load is what an instance tells its clients about itself (ORCA, gRFC A51): calls a second and the share of the
// processors' time that it takes. Clients that weight instances go by it; others do not look.
type load struct {
	recorder orca.ServerMetricsRecorder
	calls    atomic.Int64
}

func watchLoad(until context.Context) *load {
	watched := &load{recorder: orca.NewServerMetricsRecorder()}
	go func() {
		tick := time.NewTicker(measureEvery)
		defer tick.Stop()
		began, used := time.Now(), processorTime()
		for {
			select {
			case <-until.Done():
				return
			case <-tick.C:
			}
			now, spent := time.Now(), processorTime()
			elapsed := now.Sub(began).Seconds()
			watched.recorder.SetQPS(float64(watched.calls.Swap(0)) / elapsed)
			watched.recorder.SetCPUUtilization((spent - used).Seconds() / elapsed / float64(runtime.GOMAXPROCS(0)))
			began, used = now, spent
		}
	}()
	return watched
}

// perCall puts the report into the trailers of every answer.
func (watched *load) perCall() grpc.ServerOption {
	return orca.CallMetricsServerOption(watched.recorder)
}

func (watched *load) count(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	watched.calls.Add(1)
	orca.CallMetricsRecorderFromContext(ctx) // where nobody asks for it, nothing is reported
	return handle(ctx, request)
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
