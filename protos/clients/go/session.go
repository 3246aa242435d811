package weft

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft.client/go/gen/weft/identity/v1"
)

const (
	// renewBefore is how long before its end a token is renewed, or in the last fifth of its life where that is shorter.
	renewBefore = time.Minute
	// tryAgain is after a renewal failed and the token was still good.
	tryAgain = time.Second
)

// session keeps a user signed in. One caller renews for all: while the token is still good the others go on with it,
// afterwards they wait for the new one.
type session struct {
	conn            *grpc.ClientConn
	email, password string
	turn            chan struct{} // one place: whoever has it renews
	held            atomic.Pointer[access]
}

// access is what a session gave, never changed once it is held.
type access struct {
	token, refresh  string
	renewAt, endsAt time.Time
}

// goodAt is whether there is a token that is not over.
func (held *access) goodAt(now time.Time) bool { return held != nil && now.Before(held.endsAt) }

// token is one that is good. The caller's deadline bounds the waiting.
func (session *session) token(ctx context.Context) (string, error) {
	seen, now := session.held.Load(), time.Now()
	if seen != nil && now.Before(seen.renewAt) {
		return seen.token, nil
	}
	if seen.goodAt(now) {
		if !session.enterAtOnce() {
			return seen.token, nil
		}
	} else if err := session.enter(ctx); err != nil {
		return "", err
	}
	defer session.leave()
	held := session.held.Load()
	if held != seen && held.goodAt(time.Now()) {
		return held.token, nil // somebody has renewed it meanwhile
	}
	return session.renewed(ctx, held)
}

// renewed is the next token; the one that is held where a refresh fails and that is still good.
func (session *session) renewed(ctx context.Context, held *access) (string, error) {
	asked := time.Now()
	identity := identityv1.NewIdentityServiceClient(session.conn)
	if held != nil && held.refresh != "" {
		next, err := identity.RefreshSession(ctx, &identityv1.RefreshSessionRequest{RefreshToken: held.refresh})
		if err == nil {
			return session.keep(next, asked), nil
		}
		// Good once: where its answer was lost, or the session has ended, there is a sign-in.
		if code := status.Code(err); code != codes.Unauthenticated && code != codes.InvalidArgument {
			if !held.goodAt(time.Now()) {
				return "", err
			}
			later := *held
			later.renewAt = asked.Add(tryAgain)
			session.held.CompareAndSwap(held, &later) // else it was refused meanwhile
			return held.token, nil
		}
	}
	made, err := identity.CreateSession(ctx, &identityv1.CreateSessionRequest{Email: session.email, Password: session.password})
	if err != nil {
		return "", err
	}
	return session.keep(made, asked), nil
}

func (session *session) keep(made *identityv1.Session, asked time.Time) string {
	life := made.GetExpiresIn().AsDuration()
	end := asked.Add(life)
	session.held.Store(&access{made.GetAccessToken(), made.GetRefreshToken(), end.Add(-min(renewBefore, life/5)), end})
	return made.GetAccessToken()
}

// drop has a token that was refused renewed; whether there may be another.
func (session *session) drop(token string) bool {
	if session == nil {
		return false
	}
	if held := session.held.Load(); held != nil && held.token == token {
		session.held.CompareAndSwap(held, &access{token: held.token, refresh: held.refresh})
	}
	return true
}

func (session *session) enter(ctx context.Context) error {
	select {
	case session.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (session *session) enterAtOnce() bool {
	select {
	case session.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (session *session) leave() { <-session.turn }
