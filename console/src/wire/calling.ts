/** Any method of any contract, called over gRPC-web or as JSON, as a caller from outside would. */

import { fromJson, type JsonObject, type JsonValue, type Message, type Registry, toJson } from "@bufbuild/protobuf";
import { createContextValues } from "@connectrpc/connect";
import type { Method } from "../model/contract";
import { type Failure, fromError, fromStatus, traceOf } from "../model/failure";
import { httpCall } from "../model/request";
import { token, transport } from "./session";

export interface Called {
  answers: JsonValue[];
  failure: Failure | undefined;
  milliseconds: number;
  trace: string;
  /** It is a stream that has not ended. */
  open: boolean;
}

/** A stream is shown up to so many messages; more would only be work. */
const MOST = 50;

/** Calls by gRPC-web; `said` is told each state on the way. Throws where `request` does not fit the contract. */
export async function byGrpcWeb(
  method: Method,
  request: JsonObject,
  registry: Registry,
  signal: AbortSignal,
  said: (called: Called) => void,
): Promise<void> {
  const message = fromJson(method.desc.input, request, { registry });
  const json = (answer: Message) => toJson(method.desc.output, answer, { registry, alwaysEmitImplicit: true });
  const started = performance.now();
  const state: Called = { answers: [], failure: undefined, milliseconds: 0, trace: "", open: true };
  const tell = (part: Partial<Called>) =>
    said(Object.assign(state, { milliseconds: performance.now() - started }, part));
  try {
    if (method.desc.methodKind === "unary") {
      const unary = method.desc as typeof method.desc & { methodKind: "unary" };
      const answer = await transport.unary(unary, signal, undefined, undefined, message, createContextValues());
      tell({ answers: [json(answer.message as Message)], trace: traceOf(answer.header), open: false });
      return;
    }
    const asked = (async function* () {
      yield message;
    })();
    const streaming = method.desc as typeof method.desc & { methodKind: "server_streaming" };
    const answer = await transport.stream(streaming, signal, undefined, undefined, asked, createContextValues());
    tell({ trace: traceOf(answer.header) });
    for await (const next of answer.message) tell({ answers: [...state.answers, json(next as Message)].slice(-MOST) });
    tell({ open: false });
  } catch (error) {
    const failure = signal.aborted ? undefined : fromError(error);
    tell({ failure, trace: failure?.trace || state.trace, open: false });
  }
}

/** Calls as JSON over HTTP. Throws PathError where the request leaves a part of the path empty. */
export async function byJson(method: Method, request: JsonObject, signal: AbortSignal): Promise<Called> {
  const call = httpCall(method, request);
  const started = performance.now();
  const headers = new Headers(call.body === undefined ? {} : { "content-type": "application/json" });
  if (!method.open) headers.set("authorization", `Bearer ${await token()}`);
  try {
    const answer = await fetch(call.target, {
      method: call.verb,
      headers,
      signal,
      ...(call.body === undefined ? {} : { body: call.body }),
    });
    const text = await answer.text();
    const body = parsed(text);
    const milliseconds = performance.now() - started;
    const trace = traceOf(answer.headers);
    if (!answer.ok)
      return {
        answers: [],
        failure: fromStatus(answer.status, body, answer.headers),
        milliseconds,
        trace,
        open: false,
      };
    return { answers: [body], failure: undefined, milliseconds, trace, open: false };
  } catch (error) {
    return {
      answers: [],
      failure: fromError(error),
      milliseconds: performance.now() - started,
      trace: "",
      open: false,
    };
  }
}

function parsed(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}
