package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	endpoints     = "/weft/endpoints/"
	documents     = "/weft/documents/"
	left          = "/weft/left/"
	controlPlanes = "/weft/status/control-plane/"
	// An instance counts as alive so long after its last sign of life; three renewals fit into it.
	leaseSeconds  = 5
	renewEvery    = leaseSeconds * time.Second / 3
	tryAgainAfter = 200 * time.Millisecond
	// An etcd that takes longer is treated as gone.
	answerWithin = time.Second
	// So long etcd is waited for before an instance says that it serves; it serves without etcd, too.
	joinWithin = 2 * time.Second
	// Clients acknowledge within a tenth of a second; one that hangs is not waited for longer.
	acknowledgeWithin = 3 * time.Second
	lookEvery         = 20 * time.Millisecond
)

// Endpoint is the value of an instance's key: ProtoJSON of weft.mesh.v1.Endpoint.
type Endpoint struct {
	Service   string `json:"service"`
	Instance  string `json:"instance"`
	Address   string `json:"address"`
	Port      int    `json:"port"`
	Version   string `json:"version,omitempty"`
	StartTime string `json:"start_time,omitempty"` // RFC 3339
	Leaving   bool   `json:"leaving,omitempty"`    // wants no new calls
}

// Registry is an instance's side of etcd: its own key under a lease, and documents that it follows.
type Registry struct {
	client  *clientv3.Client
	lease   clientv3.LeaseID
	name    string // <service>/<instance>
	entry   string
	goodbye string // the same, and that it leaves
	end     context.CancelFunc
	done    sync.WaitGroup
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

// Register keeps the endpoint in the registry from now on. It returns once it is there, or when etcd takes too long.
func (registry *Registry) Register(endpoint Endpoint) error {
	entry, err := json.Marshal(endpoint)
	if err != nil {
		return err
	}
	endpoint.Leaving = true
	goodbye, err := json.Marshal(endpoint)
	if err != nil {
		return err
	}
	registry.name = endpoint.Service + "/" + endpoint.Instance
	registry.entry, registry.goodbye = string(entry), string(goodbye)
	select {
	case <-registry.keep(registry.write):
	case <-time.After(joinWithin):
		slog.Warn("not registered yet")
	}
	return nil
}

// keep renews the lease from now on, and looks each time whether the key is as it should be. It tells the first time that
// it is.
func (registry *Registry) keep(look func(context.Context) error) <-chan struct{} {
	ctx, end := context.WithCancel(context.Background())
	registry.end = end
	kept := make(chan struct{})
	tell := sync.OnceFunc(func() { close(kept) })
	registry.done.Go(func() {
		for {
			pause := renewEvery
			if err := registry.renew(ctx, look); err == nil {
				tell()
			} else if ctx.Err() == nil {
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
	return kept
}

func (registry *Registry) rest() {
	registry.end()
	registry.done.Wait()
}

func (registry *Registry) renew(ctx context.Context, look func(context.Context) error) error {
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
	return look(ctx)
}

// write has the entry be there: a lease is a hint, and a key can be gone while its lease lives on.
func (registry *Registry) write(ctx context.Context) error {
	key := endpoints + registry.name
	same := clientv3.Compare(clientv3.Value(key), "=", registry.entry)
	put := clientv3.OpPut(key, registry.entry, clientv3.WithLease(registry.lease))
	_, err := registry.client.Txn(ctx).If(same, registry.leased(key)).Else(put).Commit()
	return err
}

// part has the entry say goodbye. Where somebody else has the key by now, there is nobody to say goodbye for.
func (registry *Registry) part(ctx context.Context) error {
	key := endpoints + registry.name
	unsaid := clientv3.Compare(clientv3.Value(key), "!=", registry.goodbye)
	put := clientv3.OpPut(key, registry.goodbye, clientv3.WithLease(registry.lease))
	_, err := registry.client.Txn(ctx).If(unsaid, registry.leased(key)).Then(put).Commit()
	return err
}

func (registry *Registry) leased(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(key), "=", registry.lease)
}

// Leave says goodbye in the entry, and waits until each control plane says that none of its clients has the endpoint any
// more. The entry stays, under its lease, until Close.
func (registry *Registry) Leave() {
	registry.rest()
	if registry.lease == 0 {
		return // etcd was never reached, so nobody was told of it
	}
	registry.keep(registry.part)
	ctx, cancel := context.WithTimeout(context.Background(), acknowledgeWithin)
	defer cancel()
	for {
		gone, err := registry.gone(ctx)
		if gone {
			return
		}
		if err != nil {
			slog.Warn("leaving not confirmed", "error", err)
		}
		select {
		case <-ctx.Done():
			slog.Warn("left although not every client has acknowledged it")
			return
		case <-time.After(lookEvery):
		}
	}
}

// gone tells whether nobody needs to be waited for any more.
func (registry *Registry) gone(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	service, _, _ := strings.Cut(registry.name, "/")
	found, err := registry.client.Txn(ctx).Then(
		clientv3.OpGet(endpoints+service+"/", clientv3.WithPrefix()),
		clientv3.OpGet(left+registry.name+"/", clientv3.WithPrefix()),
		clientv3.OpGet(controlPlanes, clientv3.WithPrefix(), clientv3.WithKeysOnly()),
	).Commit()
	if err != nil {
		return false, err
	}
	instances, answers, living := found.Responses[0], found.Responses[1], found.Responses[2]
	own, others := "", 0
	for _, pair := range instances.GetResponseRange().Kvs {
		if string(pair.Key) == endpoints+registry.name {
			own = string(pair.Value)
		} else if !saysGoodbye(pair.Value) {
			others++
		}
	}
	if own == registry.entry {
		return false, nil // not said yet
	}
	if own != registry.goodbye || others == 0 {
		return true, nil // the key is another's, or nobody can be sent elsewhere
	}
	answered := map[string]bool{}
	for _, pair := range answers.GetResponseRange().Kvs {
		name := strings.TrimPrefix(string(pair.Key), left+registry.name+"/")
		answered[name] = string(pair.Value) == registry.goodbye
	}
	for _, pair := range living.GetResponseRange().Kvs {
		if !answered[strings.TrimPrefix(string(pair.Key), controlPlanes)] {
			return false, nil
		}
	}
	return true, nil
}

func saysGoodbye(entry []byte) bool {
	var endpoint Endpoint
	return json.Unmarshal(entry, &endpoint) == nil && endpoint.Leaving
}

// Close gives everything back at once. Without etcd's answer it ends with the lease.
func (registry *Registry) Close() {
	registry.rest()
	if registry.lease == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	if _, err := registry.client.Revoke(ctx, registry.lease); err != nil {
		slog.Warn("lease not given back", "error", err)
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
