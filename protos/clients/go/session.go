package weft

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"weft.client/go/gen/weft/identity/v1"
)

// renewBefore is how long before its end a token is renewed, or in the last fifth of its life where that is shorter.
const renewBefore = time.Minute

// session keeps a user signed in; callers that need a token at the same time share one renewal.
type session struct {
	conn            *grpc.ClientConn
	email, password string
	turn            chan struct{} // one place: whoever has it looks, and renews
	held            *identityv1.Session
	renewAt, endsAt time.Time
}

// token is one that is good. The caller's deadline bounds the waiting.
func (session *session) token(ctx context.Context) (string, error) {
	if err := session.enter(ctx); err != nil {
		return "", err
	}
	defer session.leave()
	if session.held != nil && time.Now().Before(session.renewAt) {
		return session.held.GetAccessToken(), nil
	}
	asked := time.Now()
	identity := identityv1.NewIdentityServiceClient(session.conn)
	if refresh := session.held.GetRefreshToken(); refresh != "" {
		// Good once: where its answer was lost, or the session has ended, there is a sign-in.
		renewed, err := identity.RefreshSession(ctx, &identityv1.RefreshSessionRequest{RefreshToken: refresh})
		if err == nil {
			return session.keep(renewed, asked), nil
		}
		if time.Now().Before(session.endsAt) {
			return session.held.GetAccessToken(), nil
		}
	}
	made, err := identity.CreateSession(ctx, &identityv1.CreateSessionRequest{Email: session.email, Password: session.password})
	if err != nil {
		return "", err
	}
	return session.keep(made, asked), nil
}

func (session *session) keep(held *identityv1.Session, asked time.Time) string {
	life := held.GetExpiresIn().AsDuration()
	session.held, session.endsAt = held, asked.Add(life)
	session.renewAt = session.endsAt.Add(-min(renewBefore, life/5))
	return held.GetAccessToken()
}

// drop has a token that was refused renewed; whether there may be another.
func (session *session) drop(token string) bool {
	if session == nil {
		return false
	}
	if session.enter(context.Background()) == nil {
		defer session.leave()
		if session.held.GetAccessToken() == token {
			session.renewAt, session.endsAt = time.Time{}, time.Time{}
		}
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

func (session *session) leave() { <-session.turn }
