// The other side of bench/control_plane.py: Envoy's own go-control-plane as a server, and the clients that load either
// side. One binary, so that a run builds once.
//
//	go_control_plane serve linear|snapshot SERVICES ENDPOINTS
//	go_control_plane load ADS CONTROL SERVICES GATEWAYS CALLERS SHARE
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("say serve or load"))
	}
	switch arguments := os.Args[2:]; os.Args[1] {
	case "serve":
		serve(arguments[0], numbers(arguments[1:], 2))
	case "load":
		load(arguments[0], arguments[1], numbers(arguments[2:], 4))
	default:
		fail(fmt.Errorf("%q is neither serve nor load", os.Args[1]))
	}
}

func numbers(texts []string, count int) []int {
	if len(texts) != count {
		fail(fmt.Errorf("%d numbers are needed, not %d", count, len(texts)))
	}
	found := make([]int, count)
	for index, text := range texts {
		number, err := strconv.Atoi(text)
		fail(err)
		found[index] = number
	}
	return found
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
