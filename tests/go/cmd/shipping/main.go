// Command shipping is an instance of a service of the mesh that is not written in Python.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/type/money"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft.test/mesh/gen/weft/shipping/v1"
	"weft.test/mesh/mesh"
)

var pounds = map[string]int64{"GB": 3, "FR": 9, "US": 15}

type shipping struct {
	shippingv1.UnimplementedShippingServiceServer
	instance string
}

func (server shipping) GetRate(_ context.Context, request *shippingv1.GetRateRequest) (*shippingv1.Rate, error) {
	price, known := pounds[strings.TrimPrefix(request.GetName(), "shippingRates/")]
	if !known {
		refused, err := status.New(codes.NotFound, "Nothing is sent there.").WithDetails(
			&errdetails.ErrorInfo{Reason: "RATE_NOT_FOUND", Domain: "weft"},
		)
		if err != nil {
			return nil, err
		}
		return nil, refused.Err()
	}
	return &shippingv1.Rate{
		Name: request.GetName(), Price: &money.Money{CurrencyCode: "GBP", Units: price}, ServedBy: server.instance,
	}, nil
}

func main() {
	settings, err := mesh.ReadSettings()
	if err == nil {
		err = mesh.Serve("shipping", settings, func(registrar grpc.ServiceRegistrar) {
			shippingv1.RegisterShippingServiceServer(registrar, shipping{instance: settings.Instance})
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shipping:", err)
		os.Exit(1)
	}
}
