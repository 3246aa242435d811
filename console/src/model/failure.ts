/** What went wrong with a call, in one shape for gRPC-web and JSON, and in words for people. */

import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb";

/** One field or subject that was refused. */
export interface Violation {
  subject: string;
  description: string;
}

export interface Failure {
  code: Code;
  /** `NOT_FOUND`. */
  name: string;
  message: string;
  /** Of `google.rpc.ErrorInfo`; empty where the error has none. */
  reason: string;
  domain: string;
  metadata: Record<string, string>;
  violations: Violation[];
  /** How long the mesh asks to wait. */
  retryAfterMs: number | undefined;
  /** The trace of the call, where its answer named one. */
  trace: string;
}

/** What each status tells a caller (google.rpc.Code), and what to do about it. */
const MEANING: Record<Code, { what: string; next: string }> = {
  [Code.Canceled]: {
    what: "The call was given up by its caller.",
    next: "Send it again if the answer is still wanted.",
  },
  [Code.Unknown]: { what: "Something failed without saying what.", next: "Look at the trace of the call." },
  [Code.InvalidArgument]: {
    what: "The request itself is wrong.",
    next: "Correct the fields named below; repeating it as it is cannot help.",
  },
  [Code.DeadlineExceeded]: {
    what: "The time allowed was over before the answer came.",
    next: "Look at the trace for the slow part; a write may have been done.",
  },
  [Code.NotFound]: { what: "There is no such thing, or not for this caller.", next: "Check the name and whose it is." },
  [Code.AlreadyExists]: { what: "There is one already.", next: "Take another id, or update the one that is there." },
  [Code.PermissionDenied]: {
    what: "The token lacks a scope that the contract names.",
    next: "Ask for a token with one of the method's scopes.",
  },
  [Code.ResourceExhausted]: {
    what: "A limit was reached: of calls, of size or of load.",
    next: "Wait as long as the answer says, then try again.",
  },
  [Code.FailedPrecondition]: {
    what: "The state of things does not allow it.",
    next: "Change what is named below first.",
  },
  [Code.Aborted]: { what: "Something else changed it at the same time.", next: "Read again and repeat." },
  [Code.OutOfRange]: { what: "It goes past the end.", next: "Ask for less." },
  [Code.Unimplemented]: {
    what: "Nobody serves this method.",
    next: "Check that its service runs a version that has it.",
  },
  [Code.Internal]: { what: "A part of the mesh is broken.", next: "Look at the trace and the logs of its spans." },
  [Code.Unavailable]: {
    what: "A part of the mesh could not be reached.",
    next: "It is safe to try again in a moment.",
  },
  [Code.DataLoss]: { what: "Data could not be read back.", next: "Stop writing and look at the logs." },
  [Code.Unauthenticated]: { what: "The token is missing, expired or not good.", next: "Sign in again." },
};

/** What the status means and what to do about it. */
export function meaning(code: Code): { what: string; next: string } {
  return MEANING[code] ?? MEANING[Code.Unknown];
}

/** The name of a status as contracts and logs write it. */
export function codeName(code: Code): string {
  if (code === Code.Canceled) return "CANCELLED";
  return (Code[code] ?? `CODE ${code}`).replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();
}

/** Whether the mesh could not be reached, or not in time, so that the same call may well succeed later. */
export function passing(code: Code): boolean {
  return code === Code.Unavailable || code === Code.DeadlineExceeded || code === Code.Canceled || code === Code.Unknown;
}

/** From anything that was thrown by a call over gRPC-web. */
export function fromError(thrown: unknown): Failure {
  const error = ConnectError.from(thrown);
  // fetch says no more than that there was nobody; connect-web calls that unknown.
  const code = error.cause instanceof TypeError || isFetchFailure(thrown) ? Code.Unavailable : error.code;
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    code,
    name: codeName(code),
    message: error.rawMessage,
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    metadata: { ...info?.metadata },
    violations: [
      ...error
        .findDetails(BadRequestSchema)
        .flatMap((detail) =>
          detail.fieldViolations.map((one) => ({ subject: one.field, description: one.description })),
        ),
      ...error.findDetails(PreconditionFailureSchema).flatMap((detail) => detail.violations),
      ...error.findDetails(QuotaFailureSchema).flatMap((detail) => detail.violations),
    ].map(({ subject, description }) => ({ subject, description })),
    retryAfterMs: retry?.retryDelay && Number(retry.retryDelay.seconds) * 1000 + retry.retryDelay.nanos / 1e6,
    trace: traceOf(error.metadata),
  };
}

function isFetchFailure(thrown: unknown): boolean {
  return thrown instanceof TypeError;
}

/** The trace id that the gateway says in an answer's headers, refusals included; empty where the answer is not its own. */
export function traceOf(headers: Headers): string {
  return /^[0-9a-f]{32}$/.exec(headers.get("x-trace-id") ?? "")?.[0] ?? "";
}

/** HTTP statuses of the transcoder that stand for one gRPC status, for answers whose body is not a `google.rpc.Status`. */
const OF_HTTP: Record<number, Code> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  409: Code.Aborted,
  413: Code.ResourceExhausted,
  429: Code.ResourceExhausted,
  499: Code.Canceled,
  500: Code.Internal,
  501: Code.Unimplemented,
  503: Code.Unavailable,
  504: Code.DeadlineExceeded,
};

/** From an answer in JSON that is an error: a `google.rpc.Status` in ProtoJSON (AIP-193). */
export function fromStatus(http: number, body: unknown, headers: Headers): Failure {
  const status = record(body);
  const code =
    typeof status.code === "number" && status.code in MEANING ? (status.code as Code) : (OF_HTTP[http] ?? Code.Unknown);
  const details = Array.isArray(status.details) ? status.details.map(record) : [];
  const typed = (name: string) => details.filter((detail) => String(detail["@type"]).endsWith(`/google.rpc.${name}`));
  const [info] = typed("ErrorInfo");
  const [retry] = typed("RetryInfo");
  const listed = (detail: Record<string, unknown>, key: string) =>
    Array.isArray(detail[key]) ? detail[key].map(record) : [];
  return {
    code,
    name: codeName(code),
    message: typeof status.message === "string" ? status.message : `HTTP ${http}`,
    reason: text(info?.reason),
    domain: text(info?.domain),
    metadata: Object.fromEntries(Object.entries(record(info?.metadata)).map(([key, value]) => [key, text(value)])),
    violations: [
      ...typed("BadRequest").flatMap((detail) =>
        listed(detail, "fieldViolations").map((one) => ({
          subject: text(one.field),
          description: text(one.description),
        })),
      ),
      ...[...typed("PreconditionFailure"), ...typed("QuotaFailure")].flatMap((detail) =>
        listed(detail, "violations").map((one) => ({ subject: text(one.subject), description: text(one.description) })),
      ),
    ],
    retryAfterMs: typeof retry?.retryDelay === "string" ? Number.parseFloat(retry.retryDelay) * 1000 : undefined,
    trace: traceOf(headers),
  };
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

function record(value: unknown): Record<string, unknown> {
  return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
