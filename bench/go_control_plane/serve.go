package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A cache that can be told of one service's new endpoints.
type store interface {
	cache.Cache
	change(name string, assignment types.Resource) error
}

type linear struct{ *cache.LinearCache }

func (l linear) change(name string, assignment types.Resource) error {
	return l.UpdateResource(name, assignment)
}

// All nodes are one node here: that is the least work for this cache.
type oneNode struct{}

func (oneNode) ID(*core.Node) string { return "all" }

type snapshots struct {
	cache.SnapshotCache
	order       []string
	assignments map[string]types.Resource
	version     int
}

func (s *snapshots) change(name string, assignment types.Resource) error {
	s.assignments[name] = assignment
	s.version++
	all := make([]types.Resource, len(s.order))
	for index, each := range s.order {
		all[index] = s.assignments[each]
	}
	made, err := cache.NewSnapshot(strconv.Itoa(s.version), map[resource.Type][]types.Resource{resource.EndpointType: all})
	if err != nil {
		return err
	}
	return s.SetSnapshot(context.Background(), "all", made)
}

func serve(kind string, sizes []int) {
	services, endpoints := sizes[0], sizes[1]
	assignments := make(map[string]types.Resource, services)
	order := make([]string, services)
	for index := range order {
		order[index] = service(index)
		assignments[order[index]] = assignment(index, endpoints, 0)
	}
	var held store
	switch kind {
	case "linear":
		held = linear{cache.NewLinearCache(resource.EndpointType, cache.WithInitialResources(assignments))}
	case "snapshot":
		all := &snapshots{cache.NewSnapshotCache(false, oneNode{}, nil), order, assignments, 0}
		fail(all.change(order[0], assignments[order[0]]))
		held = all
	default:
		fail(fmt.Errorf("%q is neither linear nor snapshot", kind))
	}
	ads, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	control, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	running := grpc.NewServer(grpc.MaxConcurrentStreams(4096))
	discovery.RegisterAggregatedDiscoveryServiceServer(running, server.NewServer(context.Background(), held, nil))
	go func() { fail(running.Serve(ads)) }()
	fmt.Println(ads.Addr().(*net.TCPAddr).Port, control.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := control.Accept()
		fail(err)
		lines := bufio.NewScanner(connection)
		for lines.Scan() {
			var index, port int
			_, err := fmt.Sscan(lines.Text(), &index, &port)
			fail(err)
			fail(held.change(service(index), assignment(index, endpoints, port)))
		}
	}
}

func service(index int) string { return fmt.Sprintf("service-%d", index) }

// The endpoints of a service: as many as are asked for, of which the first moves to another port with each change.
func assignment(index, endpoints, port int) *endpoint.ClusterLoadAssignment {
	members := make([]*endpoint.LbEndpoint, endpoints)
	for number := range members {
		members[number] = member(fmt.Sprintf("10.%d.%d.%d", index>>8, index&255, number+1), uint32(8080))
	}
	members[0] = member("10.255.255.254", uint32(10000+port))
	return &endpoint.ClusterLoadAssignment{
		ClusterName: service(index),
		Endpoints: []*endpoint.LocalityLbEndpoints{{
			Locality:            &core.Locality{Region: "local"},
			LoadBalancingWeight: wrapperspb.UInt32(1),
			LbEndpoints:         members,
		}},
	}
}

func member(address string, port uint32) *endpoint.LbEndpoint {
	socket := &core.SocketAddress{Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}
	return &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
		Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}},
	}}}
}
