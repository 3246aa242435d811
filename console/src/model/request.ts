/** One call in the words of JSON over HTTP and of `buf curl`, from its request in ProtoJSON. */

import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Method } from "./contract";

export interface HttpCall {
  verb: string;
  /** Path and query. */
  target: string;
  body: string | undefined;
}

/** A variable of the path that the request leaves empty. */
export class PathError extends Error {}

/** By the contract's `google.api.http`: variables of the path, then the body, and what is left is the query. */
export function httpCall(method: Method, request: JsonObject): HttpCall {
  const rest = structuredClone(request);
  const path = method.path.replace(/\{([^}=]+)(?:=[^}]*)?\}/g, (_, name: string) => {
    const value = take(rest, name.split(".").map(camel));
    if (value === undefined || value === "") throw new PathError(`${name} stands in the path and must be said`);
    return String(value).split("/").map(encodeURIComponent).join("/");
  });
  let body: string | undefined;
  if (method.body === "*") {
    body = JSON.stringify(rest);
    return { verb: method.verb, target: path, body };
  }
  if (method.body !== "") {
    body = JSON.stringify(rest[camel(method.body)] ?? {});
    delete rest[camel(method.body)];
  }
  const query = new URLSearchParams(flat(rest)).toString();
  return { verb: method.verb, target: query ? `${path}?${query}` : path, body };
}

const camel = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Takes a value out of nested objects, so that the rest can be sent as the body. */
function take(from: JsonObject, keys: readonly string[]): JsonValue | undefined {
  const [first, ...others] = keys;
  if (first === undefined) return undefined;
  const value = from[first];
  if (others.length === 0) {
    delete from[first];
    return value;
  }
  return value !== null && typeof value === "object" && !Array.isArray(value) ? take(value, others) : undefined;
}

function flat(value: JsonObject, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([name, inner]): [string, string][] => {
    const key = prefix + name;
    if (Array.isArray(inner)) return inner.map((item) => [key, String(item)]);
    if (inner !== null && typeof inner === "object") return flat(inner, `${key}.`);
    return [[key, String(inner)]];
  });
}

/** A line for a POSIX shell. The token is asked of `weft token`: it never stands in a history. */
export function bufCurl(method: Method, request: JsonObject, origin: URL): string {
  const auth = method.open ? "" : `-H "authorization: Bearer $(.venv/bin/weft token)" `;
  const url = quoted(`${origin.origin}/${method.id}`);
  return `.venv/bin/buf curl --protocol grpc ${auth}-d ${quoted(JSON.stringify(request))} ${url}`;
}

/** The same over HTTP, for curl. */
export function curl(method: Method, call: HttpCall, origin: URL): string {
  const auth = method.open ? "" : `-H "authorization: Bearer $(.venv/bin/weft token)" `;
  const verb = call.verb === "GET" || call.verb === "POST" ? "" : `-X ${call.verb} `;
  // Public methods take no body that does not say what it is.
  const body = call.body === undefined ? "" : ` -H 'content-type: application/json' -d ${quoted(call.body)}`;
  return `curl -s ${verb}${auth}${quoted(origin.origin + call.target)}${body}`;
}

const quoted = (text: string) => `'${text.replace(/'/g, `'\\''`)}'`;
