/** Who is signed in: the pair of tokens, kept for this tab alone, and renewed before it expires. */

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { computed, signal } from "@preact/signals";
import { IdentityService, type Session as Issued } from "../gen/weft/identity/v1/identity_pb";

export interface Session {
  name: string;
  user: string;
  scopes: string[];
  accessToken: string;
  refreshToken: string;
  /** By this machine's clock, in milliseconds. */
  expires: number;
}

const KEY = "weft.session";
/** Renewed this long before it expires, so that a call under way never carries a token that ends. */
const AHEAD_MS = 30_000;

export const session = signal<Session | null>(restored());
/** Why nobody is signed in any more; empty where nobody was. */
export const farewell = signal("");
export const operator = computed(() => session.value?.scopes.includes("mesh.operate") ?? false);

const origin = () => location.origin;
const identity = () => createClient(IdentityService, createGrpcWebTransport({ baseUrl: origin() }));

function restored(): Session | null {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Session | null;
    return kept?.refreshToken || (kept && kept.expires > Date.now()) ? kept : null;
  } catch {
    return null;
  }
}

function keep(next: Session | null): void {
  session.value = next;
  if (next) sessionStorage.setItem(KEY, JSON.stringify(next));
  else sessionStorage.removeItem(KEY);
}

function take(issued: Issued): Session {
  const seconds = Number(issued.expiresIn?.seconds ?? 0n);
  const next: Session = {
    name: issued.name,
    user: issued.user,
    scopes: issued.scopes,
    accessToken: issued.accessToken,
    refreshToken: issued.refreshToken,
    expires: Date.now() + seconds * 1000,
  };
  keep(next);
  return next;
}

/** Throws ConnectError where the address or the password is wrong, or nobody answers. */
export async function signIn(email: string, password: string): Promise<void> {
  take(await identity().createSession({ email, password }));
  farewell.value = "";
}

/** Ends the session here at once, and at the mesh where it can be reached. */
export async function signOut(): Promise<void> {
  const ended = session.value;
  keep(null);
  farewell.value = "";
  if (!ended) return;
  try {
    await identity().deleteSession({ name: ended.name }, { headers: { authorization: `Bearer ${ended.accessToken}` } });
  } catch {
    farewell.value = "Signed out here. The mesh could not be told; its session ends by itself.";
  }
}

/** The session is over: whoever looks at a page is led to the door. */
export function end(): void {
  keep(null);
  farewell.value = "Your session has ended. Sign in again.";
}

let renewal: Promise<Session> | undefined;

/** One renewal at a time: a refresh token is good once, and a second use would end the session. */
function renew(from: Session): Promise<Session> {
  renewal ??= identity()
    .refreshSession({ refreshToken: from.refreshToken })
    .then(take)
    .catch((error: unknown) => {
      if (ConnectError.from(error).code === Code.Unauthenticated) end();
      throw error;
    })
    .finally(() => {
      renewal = undefined;
    });
  return renewal;
}

/** A token that is good for a while. Throws ConnectError UNAUTHENTICATED where nobody is signed in. */
export async function token(): Promise<string> {
  const current = session.value;
  if (!current) throw new ConnectError("nobody is signed in", Code.Unauthenticated);
  if (current.expires - Date.now() > AHEAD_MS || !current.refreshToken) return current.accessToken;
  return (await renew(current)).accessToken;
}

/** A new token in the place of one that was refused; the session is over where there is none. Throws ConnectError. */
export async function another(): Promise<string> {
  const current = session.value;
  if (current?.refreshToken) return (await renew(current)).accessToken;
  if (current) end();
  throw new ConnectError("nobody is signed in", Code.Unauthenticated);
}

/** Sends the token along, and tries once more with a new one where the mesh no longer takes it. */
const authorised: Interceptor = (next) => async (request) => {
  request.header.set("authorization", `Bearer ${await token()}`);
  try {
    return await next(request);
  } catch (error) {
    const refused = ConnectError.from(error).code === Code.Unauthenticated;
    // A stream may be refused when it has begun: whoever reads it has to see to that.
    if (!refused || request.stream || !session.value) throw error;
    request.header.set("authorization", `Bearer ${await another()}`);
    return next(request);
  }
};

/** gRPC-web at the page's own origin. */
export const transport = createGrpcWebTransport({ baseUrl: origin(), interceptors: [authorised] });
