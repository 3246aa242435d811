package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// One change, and who has yet to be told of it.
type target struct {
	name    string
	port    uint32
	waiting atomic.Int64
	done    chan struct{}
}

type loader struct {
	subscribers []int
	current     atomic.Pointer[target]
	starting    sync.WaitGroup
	responses   atomic.Int64
	bytes       atomic.Int64
}

// load opens the clients and says "ready". For each line "FIRST COUNT" it makes so many changes, one after the other,
// each once all clients that subscribe to its service have the one before, and prints what came of it.
func load(ads, control string, sizes []int) {
	services, gateways, callers, share := sizes[0], sizes[1], sizes[2], sizes[3]
	run := &loader{subscribers: make([]int, services)}
	for number := range gateways + callers {
		names := followed(number, services, share)
		if number < gateways {
			names = followed(number, services, 1)
		}
		for _, index := range names {
			run.subscribers[index]++
		}
		run.starting.Add(1)
		go run.client(ads, number, named(names), number < gateways)
	}
	run.starting.Wait()
	connection, err := net.Dial("tcp", control)
	fail(err)
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var first, count int
		_, err := fmt.Sscan(lines.Text(), &first, &count)
		fail(err)
		run.series(connection, first, count)
	}
}

// followed are the services that a client asks for: one in `share` of them.
func followed(number, services, share int) []int {
	found := make([]int, 0, services/share)
	for offset := range services / share {
		found = append(found, (number+offset*share)%services)
	}
	return found
}

func named(indices []int) []string {
	names := make([]string, len(indices))
	for position, index := range indices {
		names[position] = service(index)
	}
	return names
}

func (run *loader) series(control net.Conn, first, count int) {
	run.responses.Store(0)
	run.bytes.Store(0)
	took := make([]float64, 0, count)
	deliveries := 0
	for number := first; number < first+count; number++ {
		index := number * 7 % len(run.subscribers)
		next := &target{name: service(index), port: uint32(10001 + number), done: make(chan struct{})}
		next.waiting.Store(int64(run.subscribers[index]))
		run.current.Store(next)
		began := time.Now()
		_, err := fmt.Fprintf(control, "%d %d\n", index, 1+number)
		fail(err)
		select {
		case <-next.done:
		case <-time.After(60 * time.Second):
			fail(fmt.Errorf("change %d did not reach %d clients", number, next.waiting.Load()))
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		deliveries += run.subscribers[index]
	}
	fail(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"took_ms": took, "deliveries": deliveries, "responses": run.responses.Load(), "bytes": run.bytes.Load(),
	}))
}

func (run *loader) client(ads string, number int, names []string, delta bool) {
	connection, err := grpc.NewClient(ads, grpc.WithTransportCredentials(insecure.NewCredentials()))
	fail(err)
	api := discovery.NewAggregatedDiscoveryServiceClient(connection)
	node := &core.Node{Id: fmt.Sprintf("client-%d", number), Cluster: "bench", UserAgentName: "bench"}
	if delta {
		stream, err := api.DeltaAggregatedResources(context.Background())
		fail(err)
		run.deltaStream(stream, node, names)
		return
	}
	stream, err := api.StreamAggregatedResources(context.Background())
	fail(err)
	run.stream(stream, node, names)
}

func (run *loader) stream(
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient, node *core.Node, names []string,
) {
	request := &discovery.DiscoveryRequest{Node: node, TypeUrl: resource.EndpointType, ResourceNames: names}
	for known := 0; ; {
		fail(stream.Send(request))
		answer, err := stream.Recv()
		fail(err)
		for _, each := range answer.Resources {
			run.took(each)
		}
		run.count(answer)
		known = run.started(known, len(answer.Resources), len(names))
		request = &discovery.DiscoveryRequest{
			TypeUrl: resource.EndpointType, ResourceNames: names,
			VersionInfo: answer.VersionInfo, ResponseNonce: answer.Nonce,
		}
	}
}

func (run *loader) deltaStream(
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, node *core.Node, names []string,
) {
	request := &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: resource.EndpointType, ResourceNamesSubscribe: names}
	for known := 0; ; {
		fail(stream.Send(request))
		answer, err := stream.Recv()
		fail(err)
		for _, each := range answer.Resources {
			run.took(each.Resource)
		}
		run.count(answer)
		known = run.started(known, len(answer.Resources), len(names))
		request = &discovery.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType, ResponseNonce: answer.Nonce}
	}
}

// started counts what a client has at its start; with all of it, the client is ready.
func (run *loader) started(known, more, wanted int) int {
	if known < wanted && known+more >= wanted {
		run.starting.Done()
	}
	return known + more
}

func (run *loader) count(answer proto.Message) {
	run.responses.Add(1)
	run.bytes.Add(int64(proto.Size(answer)))
}

// took looks whether this is the change that is waited for.
func (run *loader) took(packed *anypb.Any) {
	current := run.current.Load()
	if current == nil {
		return
	}
	found := &endpoint.ClusterLoadAssignment{}
	fail(proto.Unmarshal(packed.Value, found))
	if found.ClusterName != current.name {
		return
	}
	for _, each := range found.Endpoints[0].LbEndpoints {
		socket := each.GetEndpoint().GetAddress().GetSocketAddress()
		if socket.GetPortValue() == current.port && current.waiting.Add(-1) == 0 {
			close(current.done)
		}
	}
}
