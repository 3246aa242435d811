// Command program calls a mesh and says what came of it, one JSON object on standard output. Its argument is the address
// of the mesh; standard input says who calls and what there is, as the fields of given.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"weft.client/go"
	"weft.client/go/gen/weft/catalog/v1"
	"weft.client/go/gen/weft/identity/v1"
	"weft.client/go/gen/weft/orders/v1"
)

type given struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	User     string `json:"user"`
	Product  string `json:"product"`
	Changes  int    `json:"changes"`
}

type refused struct {
	Code   string   `json:"code"`
	Reason string   `json:"reason"`
	Fields []string `json:"fields"`
}

type said struct {
	Order     string   `json:"order"`
	Revisions []int64  `json:"revisions"`
	Product   string   `json:"product"`
	None      refused  `json:"none"`
	Empty     refused  `json:"empty"`
	Hangs     refused  `json:"hangs"`
	Once      refused  `json:"once"`
	Users     []string `json:"users"`
}

func refusalOf(err error) refused {
	refusal := weft.RefusalOf(err)
	fields := []string{}
	for _, one := range refusal.Fields {
		fields = append(fields, one.GetField())
	}
	return refused{refusal.Code.String(), refusal.Reason, fields}
}

func watched(ctx context.Context, orders ordersv1.OrderServiceClient, name string, changes int) ([]int64, error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	stream, err := orders.WatchOrder(ctx, &ordersv1.WatchOrderRequest{Name: name})
	if err != nil {
		return nil, err
	}
	revisions := []int64{}
	for len(revisions) < changes {
		change, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		revisions = append(revisions, change.GetOrder().GetRevision())
	}
	return revisions, nil
}

func run(address string) error {
	var given given
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		return err
	}
	mesh, err := weft.Dial(address, weft.Options{Client: "shop/1.4", Email: given.Email, Password: given.Password})
	if err != nil {
		return err
	}
	defer mesh.Close()
	ctx, told := context.Background(), said{Users: make([]string, 2)}
	catalog, orders := catalogv1.NewCatalogServiceClient(mesh), ordersv1.NewOrderServiceClient(mesh)
	identity := identityv1.NewIdentityServiceClient(mesh)
	item := &ordersv1.ItemQuantity{ProductId: given.Product, Quantity: 2}
	order, err := orders.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{Items: []*ordersv1.ItemQuantity{item}})
	if err != nil {
		return err
	}
	told.Order = order.GetName()
	if told.Revisions, err = watched(ctx, orders, told.Order, given.Changes); err != nil {
		return err
	}
	product, err := catalog.GetProduct(ctx, &catalogv1.GetProductRequest{Name: "products/" + given.Product})
	if err != nil {
		return err
	}
	told.Product = product.GetDisplayName()
	_, err = catalog.GetProduct(ctx, &catalogv1.GetProductRequest{Name: "products/none"})
	told.None = refusalOf(err)
	_, err = orders.PlaceOrder(ctx, &ordersv1.PlaceOrderRequest{})
	told.Empty = refusalOf(err)
	_, err = catalog.GetProduct(ctx, &catalogv1.GetProductRequest{Name: "products/slow"})
	told.Hangs = refusalOf(err)
	_, err = catalog.DeleteProduct(ctx, &catalogv1.DeleteProductRequest{Name: "products/" + given.Product})
	told.Once = refusalOf(err)
	var users sync.WaitGroup
	for index := range told.Users {
		users.Go(func() {
			user, _ := identity.GetUser(ctx, &identityv1.GetUserRequest{Name: given.User})
			told.Users[index] = user.GetName()
		})
	}
	users.Wait()
	return json.NewEncoder(os.Stdout).Encode(told)
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(1)
	}
}
