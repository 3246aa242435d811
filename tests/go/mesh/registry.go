package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	endpoints = "/weft/endpoints/"
	documents = "/weft/documents/"
	// An instance counts as alive so long after its last sign of life; three renewals fit into it.
	leaseSeconds  = 5
	renewEvery    = leaseSeconds * time.Second / 3
	tryAgainAfter = 200 * time.Millisecond
	// An etcd that takes longer is treated as gone.
	answerWithin = time.Second
)

// Endpoint is the value of an instance's key: ProtoJSON of weft.mesh.v1.Endpoint.
type Endpoint struct {
	Service   string `json:"service"`
	Instance  string `json:"instance"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	Version   string `json:"version,omitempty"`
	StartTime string `json:"start_time,omitempty"` // RFC 3339
}

// Registry is an instance's side of etcd: its own key under a lease, and documents that it follows.
type Registry struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	key    string
	value  string
	end    context.CancelFunc
	done   sync.WaitGroup
}

// OpenRegistry signs in, and waits for an etcd that is not there until the context ends.
func OpenRegistry(ctx context.Context, settings Settings) (*Registry, error) {
	config := clientv3.Config{Endpoints: settings.Etcd, DialTimeout: answerWithin, Logger: zap.NewNop()}
	if settings.EtcdPassword != "" {
		config.Username, config.Password = settings.EtcdUser, settings.EtcdPassword
	}
	for {
		client, err := clientv3.New(config)
		if err == nil {
			return &Registry{client: client}, nil
		}
		slog.Warn("etcd not reached", "error", err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(tryAgainAfter):
		}
	}
}

// Register keeps the endpoint in the registry from now on: every renewal looks whether it is still there.
func (registry *Registry) Register(endpoint Endpoint) error {
	value, err := json.Marshal(endpoint)
	if err != nil {
		return err
	}
	registry.key, registry.value = endpoints+endpoint.Service+"/"+endpoint.Instance, string(value)
	ctx, end := context.WithCancel(context.Background())
	registry.end = end
	registry.done.Go(func() {
		for {
			pause := renewEvery
			if err := registry.renew(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("registration not renewed", "error", err)
				pause = tryAgainAfter
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
	return nil
}

func (registry *Registry) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if registry.lease != 0 {
		_, err := registry.client.KeepAliveOnce(ctx, registry.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			registry.lease = 0
		} else if err != nil {
			return err
		}
	}
	if registry.lease == 0 {
		granted, err := registry.client.Grant(ctx, leaseSeconds)
		if err != nil {
			return err
		}
		registry.lease = granted.ID
	}
	// A lease is a hint: a key can be gone while its lease lives on. Written only where it is not as it should be.
	same := clientv3.Compare(clientv3.Value(registry.key), "=", registry.value)
	leased := clientv3.Compare(clientv3.LeaseValue(registry.key), "=", registry.lease)
	put := clientv3.OpPut(registry.key, registry.value, clientv3.WithLease(registry.lease))
	_, err := registry.client.Txn(ctx).If(same, leased).Else(put).Commit()
	return err
}

// Leave takes the endpoint out at once. Without etcd's answer the key ends with its lease.
func (registry *Registry) Leave() {
	registry.end()
	registry.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if _, err := registry.client.Revoke(ctx, registry.lease); err != nil {
		slog.Warn("leaving not confirmed", "error", err)
	}
}

// Follow tells every value of a document, for as long as the process lives. One that vanishes stays as it was.
func (registry *Registry) Follow(name string, changed func(value []byte)) {
	key := documents + name
	go func() {
		for {
			ctx, cancel := context.WithCancel(context.Background())
			registry.follow(ctx, key, changed)
			cancel()
			time.Sleep(answerWithin)
		}
	}()
}

func (registry *Registry) follow(ctx context.Context, key string, changed func(value []byte)) {
	asked, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	found, err := registry.client.Get(asked, key)
	if err != nil {
		slog.Warn("document not read", "key", key, "error", err)
		return
	}
	for _, pair := range found.Kvs {
		changed(pair.Value)
	}
	since := clientv3.WithRev(found.Header.Revision + 1)
	for answer := range registry.client.Watch(clientv3.WithRequireLeader(ctx), key, since) {
		for _, event := range answer.Events {
			if event.Type == clientv3.EventTypePut {
				changed(event.Kv.Value)
			}
		}
	}
}
