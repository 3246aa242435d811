package weft

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"weft.client/go/gen/weft/identity/v1"
)

// deadline is generous: a test that fails because a loaded machine was slow has found nothing.
const deadline = time.Minute

// issuer is the identity service. A refresh is answered when somebody has taken its number and said how it ends.
type issuer struct {
	identityv1.UnimplementedIdentityServiceServer
	begun   chan struct{}
	ends    chan error
	signIns atomic.Int32
}

func (issuer *issuer) CreateSession(context.Context, *identityv1.CreateSessionRequest) (*identityv1.Session, error) {
	issuer.signIns.Add(1)
	return &identityv1.Session{AccessToken: "signed in", RefreshToken: "r", ExpiresIn: durationpb.New(time.Hour)}, nil
}

func (issuer *issuer) RefreshSession(context.Context, *identityv1.RefreshSessionRequest) (*identityv1.Session, error) {
	issuer.begun <- struct{}{}
	if err := <-issuer.ends; err != nil {
		return nil, err
	}
	return &identityv1.Session{AccessToken: "renewed", RefreshToken: "r", ExpiresIn: durationpb.New(time.Hour)}, nil
}

// signedIn is a session whose token is due to be renewed, and good for so long.
func signedIn(t *testing.T, good time.Duration) (*session, *issuer, context.Context) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving := &issuer{begun: make(chan struct{}, 100), ends: make(chan error, 100)}
	server := grpc.NewServer()
	identityv1.RegisterIdentityServiceServer(server, serving)
	go server.Serve(listener)
	conn, err := Dial(listener.Addr().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(func() {
		cancel()
		conn.Close()
		server.Stop()
	})
	made := &session{conn: conn, email: "ann@example.com", password: "correct horse", turn: make(chan struct{}, 1)}
	made.held.Store(&access{token: "old", refresh: "r", endsAt: time.Now().Add(good)})
	return made, serving, ctx
}

func expect(t *testing.T, wanted string, session *session, ctx context.Context) {
	t.Helper()
	if token, err := session.token(ctx); err != nil || token != wanted {
		t.Fatalf("token %q, error %v; wanted %q", token, err, wanted)
	}
}

func TestWhoComesWhileAGoodTokenIsRenewedGoesOnWithIt(t *testing.T) {
	session, issuer, ctx := signedIn(t, time.Hour)
	renewed := make(chan string)
	go func() {
		token, _ := session.token(ctx)
		renewed <- token
	}()
	<-issuer.begun

	expect(t, "old", session, ctx)

	issuer.ends <- nil
	if token := <-renewed; token != "renewed" {
		t.Fatalf("the one who renewed it has %q", token)
	}
	expect(t, "renewed", session, ctx)
}

func TestARenewalThatFailsCostsNothingWhileTheTokenIsGoodAndIsTriedLater(t *testing.T) {
	session, issuer, ctx := signedIn(t, time.Hour)
	issuer.ends <- status.Error(codes.Internal, "away")
	began := time.Now()

	expect(t, "old", session, ctx)

	due := session.held.Load().renewAt
	if due.Before(began.Add(tryAgain)) || due.After(time.Now().Add(tryAgain)) {
		t.Fatalf("tried again at %v, begun at %v", due, began)
	}
	if issuer.signIns.Load() != 0 {
		t.Fatal("the password was sent for a token that is good")
	}
}

func TestARefreshTokenThatIsRefusedCostsASignIn(t *testing.T) {
	session, issuer, ctx := signedIn(t, time.Hour)
	issuer.ends <- status.Error(codes.Unauthenticated, "it is over")

	expect(t, "signed in", session, ctx)
}

func TestATokenThatIsOverIsWaitedForByAll(t *testing.T) {
	session, issuer, ctx := signedIn(t, -time.Second)
	tokens := make(chan string, 2)
	for range cap(tokens) {
		go func() {
			token, _ := session.token(ctx)
			tokens <- token
		}()
	}
	<-issuer.begun
	issuer.ends <- nil

	for range cap(tokens) {
		if token := <-tokens; token != "renewed" {
			t.Fatalf("one has %q", token)
		}
	}
	if len(issuer.begun) != 0 {
		t.Fatal("it was renewed twice")
	}
}

func TestATokenThatWasRefusedIsNotUsedAgain(t *testing.T) {
	session, issuer, ctx := signedIn(t, time.Hour)
	session.drop("another")
	if held := session.held.Load(); !held.goodAt(time.Now()) {
		t.Fatal("a token was dropped that is not the one refused")
	}
	session.drop("old")
	issuer.ends <- status.Error(codes.Internal, "away")

	if token, err := session.token(ctx); status.Code(err) != codes.Internal {
		t.Fatalf("token %q, error %v", token, err)
	}
	if issuer.signIns.Load() != 0 {
		t.Fatal("the password was sent where a refresh may do")
	}
}
