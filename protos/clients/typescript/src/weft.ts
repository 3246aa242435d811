// A transport that treats every method as its contract says: deadlines, repetitions, request ids, tokens, errors.
//
//   const weft = connectWeft(createGrpcWebTransport({ baseUrl: "https://shop.example" }), { client: "shop-web/1.4" });
//   const catalog = createClient(CatalogService, weft);
//   const mug = await catalog.getProduct({ name: "products/mug" });
//
// In Node the inner transport is createGrpcTransport of @connectrpc/connect-node; everything else is the same.
import { type DescMethod, type DescMethodUnary, getOption, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { contract } from "./gen/contract.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { IdentityService, type Session } from "./gen/weft/identity/v1/identity_pb.js";
import { defaults, type MethodPolicy, policy } from "./gen/weft/options/v1/policy_pb.js";

export interface Options {
  /** What the program is called at the services, `name/version`. */
  client?: string;
  /** An access token, or a function that has the newest one. */
  token?: string | (() => string | Promise<string>);
  /** Who signs in where a method asks for a token; its session is renewed before it ends. */
  login?: { email: string; password: string };
  /** The trace that calls belong to (W3C Trace Context). */
  traceparent?: () => string | undefined;
}

/** What a program tests of an error that the mesh gave. */
export interface Refusal {
  code: Code;
  /** Constant of the contract: `PRODUCT_NOT_FOUND`; empty where nobody gave one. */
  reason: string;
  violations: { field: string; description: string }[];
  retryAfterMs?: number;
  traceId: string;
}

/** What an error of a call says; undefined for any other error. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof ConnectError)) {
    return undefined;
  }
  const info = error.findDetails(ErrorInfoSchema)[0];
  const wait = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    code: codeOf(error),
    reason: info?.reason ?? "",
    violations: error.findDetails(BadRequestSchema).flatMap((bad) =>
      bad.fieldViolations.map(({ field, description }) => ({ field, description })),
    ),
    ...(wait === undefined ? {} : { retryAfterMs: durationMs(wait) }),
    traceId: error.metadata.get("x-trace-id") ?? "",
  };
}

/** The code of an error; of a lost connection fetch says no more than a TypeError, and connect-web calls that unknown. */
function codeOf(error: ConnectError): Code {
  return error.code === Code.Unknown && error.cause instanceof TypeError ? Code.Unavailable : error.code;
}

/** Attempts that gRPC allows at most, and pauses where a refusal names none. */
const ATTEMPTS_MAX = 5;
const PAUSE_FIRST_MS = 100;
const PAUSE_MAX_MS = 2000;
/** A token is renewed this long before its end, or in the last fifth of its life. */
const RENEW_BEFORE_MS = 60_000;
const STALE = new Set(["TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED"]);

/** The transport, with every call of it treated as its contract says. */
export function connectWeft(inner: Transport, options: Options = {}): Transport {
  const tokens = tokensOf(inner, options);
  let readToken = "";

  async function headers(method: DescMethod, given?: HeadersInit): Promise<Headers> {
    const all = new Headers(given);
    const token = isPublic(method) || all.has("authorization") ? "" : await tokens.current();
    all.set("x-weft-client", `${options.client ?? "weft-client"}; contract=${contract}`);
    const parent = options.traceparent?.();
    if (token) all.set("authorization", `Bearer ${token}`);
    if (parent) all.set("traceparent", parent);
    if (readToken) all.set("x-weft-read-token", readToken);
    return all;
  }

  return {
    async unary(method, signal, timeoutMs, header, input, contextValues) {
      const whole = timeoutMs ?? timeoutOf(method);
      const end = whole === undefined ? Number.POSITIVE_INFINITY : performance.now() + whole;
      const filled = withRequestId(method, input);
      let renewed = false;
      for (let attempt = 1; ; attempt++) {
        const left = Number.isFinite(end) ? Math.max(1, Math.ceil(end - performance.now())) : undefined;
        try {
          const answer = await inner.unary(method, signal, left, await headers(method, header), filled, contextValues);
          readToken = answer.header.get("x-weft-read-token") ?? readToken;
          return answer;
        } catch (error) {
          if (!renewed && STALE.has(refusalOf(error)?.reason ?? "") && tokens.renew()) {
            renewed = true;
            continue;
          }
          const wait = pauseMs(method, error, attempt);
          if (wait === undefined || performance.now() + wait >= end) throw error;
          await pause(wait, signal);
        }
      }
    },
    async stream(method, signal, timeoutMs, header, input, contextValues) {
      const limit = timeoutMs ?? timeoutOf(method);
      return inner.stream(method, signal, limit, await headers(method, header), input, contextValues);
    },
  };
}

/** Milliseconds until the next attempt; undefined: there is none. The rules are those of the Python client. */
function pauseMs(method: DescMethod, error: unknown, attempt: number): number | undefined {
  const refusal = refusalOf(error);
  const attempts = effective(method, "retry")?.maxAttempts ?? 1;
  const said = refusal?.retryAfterMs;
  switch (refusal?.code) {
    case Code.ResourceExhausted:
      return attempt < ATTEMPTS_MAX ? said : undefined;
    case Code.Aborted:
      return attempt < attempts ? said : undefined;
    case Code.Unavailable:
      if (attempt >= attempts) return undefined;
      return said ?? Math.min(PAUSE_MAX_MS, PAUSE_FIRST_MS * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
    default:
      return undefined;
  }
}

/** A part of a method's policy: its own, else its service's. */
function effective<Part extends "timeout" | "retry">(method: DescMethod, part: Part): MethodPolicy[Part] {
  return getOption(method, policy)[part] ?? getOption(method.parent, defaults)[part];
}

function timeoutOf(method: DescMethod): number | undefined {
  const timeout = effective(method, "timeout");
  return (timeout && durationMs(timeout)) || undefined;
}

function isPublic(method: DescMethod): boolean {
  const own = getOption(method, policy);
  return own.public || (own.scopes.length === 0 && getOption(method.parent, defaults).public);
}

/** The request with an id of its own where the method has one and the caller did not say it (AIP-155). */
function withRequestId<M extends DescMethodUnary>(method: M, input: MessageInitShape<M["input"]>) {
  const field = method.input.fields.find((each) => each.name === "request_id");
  const said = input as Record<string, unknown>;
  if (field === undefined || said["requestId"]) return input;
  return { ...said, requestId: uuid() } as unknown as MessageInitShape<M["input"]>;
}

/** A random UUID; crypto.randomUUID is not there on pages without TLS. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(ConnectError.from(signal.reason))), {
      once: true,
    });
  });
}

interface Tokens {
  current(): Promise<string>;
  /** Whether another may be good after one was refused. */
  renew(): boolean;
}

function tokensOf(inner: Transport, options: Options): Tokens {
  const { login, token } = options;
  if (login === undefined) {
    return { current: async () => (typeof token === "function" ? token() : (token ?? "")), renew: () => typeof token === "function" };
  }
  const identity = createClient(IdentityService, inner);
  let held: { session: Session; renewAt: number; endsAt: number } | undefined;
  let renewing: Promise<string> | undefined;

  async function renewed(): Promise<string> {
    const asked = performance.now();
    let session: Session | undefined;
    if (held?.session.refreshToken) {
      // Good once: where its answer was lost, or the session has ended, there is a sign-in.
      session = await identity.refreshSession({ refreshToken: held.session.refreshToken }).catch(() => undefined);
    }
    session ??= await identity.createSession(login ?? {});
    const life = session.expiresIn ? durationMs(session.expiresIn) : 0;
    held = { session, renewAt: asked + life - Math.min(RENEW_BEFORE_MS, life / 5), endsAt: asked + life };
    return session.accessToken;
  }

  return {
    async current() {
      const now = performance.now();
      if (held && now < held.renewAt) return held.session.accessToken;
      renewing ??= renewed().finally(() => {
        renewing = undefined;
      });
      if (held && now < held.endsAt) {
        const good = held.session.accessToken;
        renewing.catch(() => undefined); // the token is still good: whoever needs the next one is told
        return good;
      }
      return renewing;
    },
    renew() {
      if (held) held = { ...held, renewAt: 0, endsAt: 0 };
      return true;
    },
  };
}
