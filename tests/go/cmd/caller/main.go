// Command caller is a client of the mesh in Go: it finds the instances of a service by its bootstrap file alone.
//
// It reads orders from standard input, one JSON object a line, and answers each with one:
//
//	{"do": "call", "product": "products/x", "token": "...", "traceparent": "..."}   one call
//	{"do": "start", "product": "products/x", "token": "...", "callers": 2}          calls on and on, side by side
//	{"do": "report"}                                                                what came of them so far
//	{"do": "stop"}                                                                  the same, when the last has ended
//
// It ends with its input. A token comes by no other way: what is in arguments or environment, others can read.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"weft.test/mesh/gen/weft/catalog/v1"
	"weft.test/mesh/mesh"
)

const (
	pace        = 20 * time.Millisecond
	failuresMax = 20
)

type order struct {
	Do          string `json:"do"`
	Product     string `json:"product"`
	Token       string `json:"token"`
	Traceparent string `json:"traceparent"`
	Callers     int    `json:"callers"`
}

type answer struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Peer    string `json:"peer"`
	Name    string `json:"name"`
}

type report struct {
	Calls  int            `json:"calls"`
	Failed int            `json:"failed"`
	Said   []string       `json:"said"`  // what the first failures said
	Peers  map[string]int `json:"peers"` // answers by the address they came from
}

type caller struct {
	catalog catalogv1.CatalogServiceClient
	lock    sync.Mutex
	report  report
	running sync.WaitGroup
	end     context.CancelFunc
}

func (caller *caller) call(ctx context.Context, order order) answer {
	if order.Traceparent != "" {
		carried := propagation.MapCarrier{"traceparent": order.Traceparent}
		ctx = otel.GetTextMapPropagator().Extract(ctx, carried)
	}
	var from peer.Peer
	request := &catalogv1.GetProductRequest{Name: order.Product}
	product, err := caller.catalog.GetProduct(mesh.WithToken(ctx, order.Token), request, grpc.Peer(&from))
	told := status.Convert(err)
	said := answer{Code: told.Code().String(), Message: told.Message(), Name: product.GetName()}
	if from.Addr != nil {
		said.Peer = from.Addr.String()
	}
	return said
}

func (caller *caller) start(order order) {
	ctx, end := context.WithCancel(context.Background())
	caller.end = end
	caller.report = report{Said: []string{}, Peers: map[string]int{}}
	for range max(1, order.Callers) {
		caller.running.Go(func() {
			for ctx.Err() == nil {
				caller.note(caller.call(context.Background(), order))
				time.Sleep(pace)
			}
		})
	}
}

func (caller *caller) note(said answer) {
	caller.lock.Lock()
	defer caller.lock.Unlock()
	caller.report.Calls++
	if said.Code == "OK" {
		caller.report.Peers[said.Peer]++
		return
	}
	caller.report.Failed++
	if len(caller.report.Said) < failuresMax {
		caller.report.Said = append(caller.report.Said, said.Code+": "+said.Message)
	}
}

func (caller *caller) stop() {
	if caller.end != nil {
		caller.end()
		caller.running.Wait()
	}
}

func (caller *caller) soFar() report {
	caller.lock.Lock()
	defer caller.lock.Unlock()
	found := caller.report
	found.Peers = maps.Clone(found.Peers)
	return found
}

func (caller *caller) obey(given order) any {
	switch given.Do {
	case "call":
		return caller.call(context.Background(), given)
	case "start":
		caller.stop()
		caller.start(given)
	case "stop":
		caller.stop()
	case "report":
	default:
		return answer{Code: "Unknown", Message: "no such order: " + given.Do}
	}
	return caller.soFar()
}

func run() error {
	end, err := mesh.Trace("go-caller", "go-caller-1", os.Getenv("WEFT_OTLP_ENDPOINT"))
	if err != nil {
		return err
	}
	defer end(context.Background())
	channel, err := mesh.Open("catalog")
	if err != nil {
		return err
	}
	defer channel.Close()
	caller := &caller{catalog: catalogv1.NewCatalogServiceClient(channel)}
	answers := json.NewEncoder(os.Stdout)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var given order
		if err := json.Unmarshal(orders.Bytes(), &given); err != nil {
			return err
		}
		if err := answers.Encode(caller.obey(given)); err != nil {
			return err
		}
	}
	caller.stop()
	return orders.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
}
