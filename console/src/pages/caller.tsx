/** The form of one method, and what came of calling it: over gRPC-web, as JSON, or as a line for a shell. */

import type { FileRegistry, JsonObject } from "@bufbuild/protobuf";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Method } from "../model/contract";
import { blank, type Drafts, type Field, fields, toRequest } from "../model/form";
import { length, plural } from "../model/format";
import { bufCurl, curl, httpCall } from "../model/request";
import { href } from "../model/route";
import { Controls } from "../parts/controls";
import { Mark } from "../parts/marks";
import { Failed } from "../parts/states";
import { byGrpcWeb, byJson, type Called } from "../wire/calling";
import { Copy } from "./trace";

type Protocol = "web" | "json" | "grpc";

const PROTOCOLS: { protocol: Protocol; title: string }[] = [
  { protocol: "web", title: "gRPC-web" },
  { protocol: "json", title: "JSON" },
  { protocol: "grpc", title: "gRPC" },
];

interface Typed {
  drafts: Drafts;
  /** The request as JSON, once it is written by hand. */
  text: string | undefined;
}

export function Caller({ method, registry, sample }: { method: Method; registry: FileRegistry; sample: string }) {
  const shape = useMemo(() => fields(method.desc.input, registry), [method, registry]);
  const [typed, setTyped] = useState<Typed>(() => ({
    drafts: blank(shape, () => crypto.randomUUID()),
    text: undefined,
  }));
  const [protocol, setProtocol] = useState<Protocol>("web");
  const [called, setCalled] = useState<Called | undefined>();
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const running = useRef<AbortController | undefined>(undefined);
  const { request, error } = read(shape, typed);
  // Whoever leaves the page hears no more of what it called.
  useEffect(() => () => running.current?.abort(), []);

  const send = async () => {
    running.current?.abort();
    const given = new AbortController();
    running.current = given;
    setBusy(true);
    setWrong("");
    setCalled(undefined);
    try {
      if (protocol === "json") setCalled(await byJson(method, request ?? {}, given.signal));
      else await byGrpcWeb(method, request ?? {}, registry, given.signal, (next) => setCalled({ ...next }));
    } catch (thrown) {
      setWrong(thrown instanceof Error ? thrown.message : String(thrown));
    }
    if (running.current === given) setBusy(false);
  };

  return (
    <div class="split even">
      <section class="panel" aria-label="Request">
        <Heading typed={typed} write={setTyped} request={request} sample={sample} />
        <form
          class="body form"
          onSubmit={(event) => {
            event.preventDefault();
            if (protocol !== "grpc" && !error) send();
          }}
        >
          <Written shape={shape} typed={typed} write={setTyped} message={method.desc.input.typeName} />
          {(error || wrong) && (
            <p class="bad small" role="alert">
              {error || wrong}
            </p>
          )}
          <div class="row">
            <fieldset class="tabs" aria-label="Protocol">
              {PROTOCOLS.map((one) => (
                <button
                  key={one.protocol}
                  type="button"
                  aria-pressed={protocol === one.protocol}
                  onClick={() => setProtocol(one.protocol)}
                >
                  {one.title}
                </button>
              ))}
            </fieldset>
            {protocol !== "grpc" && (
              <button type="submit" class="main" disabled={!!error || (protocol === "json" && !method.path)}>
                Call
              </button>
            )}
            {busy && (
              <button type="button" onClick={() => running.current?.abort()}>
                Stop
              </button>
            )}
          </div>
        </form>
      </section>
      <section class="panel" aria-label="Answer" aria-live="polite">
        {protocol === "grpc" ? (
          <Shell method={method} request={request ?? {}} />
        ) : (
          <Outcome
            called={called}
            busy={busy}
            method={method}
            hint={protocol === "json" && !method.path ? "This method has no form in JSON." : ""}
          />
        )}
      </section>
    </div>
  );
}

interface HeadingProps {
  typed: Typed;
  write: (typed: Typed) => void;
  request: JsonObject | undefined;
  sample: string;
}

function Heading({ typed, write, request, sample }: HeadingProps) {
  const asText = typed.text !== undefined;
  return (
    <header>
      <h2>Call it</h2>
      <div class="aside">
        {sample && (
          <button type="button" onClick={() => write({ ...typed, text: pretty(sample) })}>
            Example
          </button>
        )}
        <fieldset class="tabs" aria-label="How the request is written">
          <button type="button" aria-pressed={!asText} onClick={() => write({ ...typed, text: undefined })}>
            Form
          </button>
          <button
            type="button"
            aria-pressed={asText}
            onClick={() => write({ ...typed, text: typed.text ?? JSON.stringify(request ?? {}, null, 2) })}
          >
            Text
          </button>
        </fieldset>
      </div>
    </header>
  );
}

interface WrittenProps {
  shape: readonly Field[];
  typed: Typed;
  write: (typed: Typed) => void;
  message: string;
}

function Written({ shape, typed, write, message }: WrittenProps) {
  if (typed.text !== undefined) {
    return (
      <label class="field">
        <span>{message}</span>
        <textarea
          rows={14}
          spellcheck={false}
          value={typed.text}
          onInput={(event) => write({ ...typed, text: event.currentTarget.value })}
        />
      </label>
    );
  }
  if (shape.length === 0) return <p class="quiet">It is asked with nothing.</p>;
  return <Controls fields={shape} drafts={typed.drafts} change={(drafts) => write({ ...typed, drafts })} />;
}

function read(shape: readonly Field[], typed: Typed): { request?: JsonObject; error?: string } {
  try {
    return {
      request:
        typed.text === undefined ? toRequest(shape, typed.drafts) : (JSON.parse(typed.text || "{}") as JsonObject),
    };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

function Shell({ method, request }: { method: Method; request: JsonObject }) {
  const origin = new URL(location.origin);
  const lines = [{ title: "gRPC", text: bufCurl(method, request, origin) }];
  try {
    if (method.path) lines.push({ title: "JSON", text: curl(method, httpCall(method, request), origin) });
  } catch {
    // The form says what is missing of the path once it is called; the line for gRPC is good without.
  }
  return (
    <>
      <header>
        <h2>From a shell</h2>
      </header>
      <div class="body stack">
        <p class="small quiet">
          A browser cannot speak gRPC itself. In the clone, these lines do; the token is asked of{" "}
          <code>weft token</code> and stands in no history.
        </p>
        {lines.map((line) => (
          <div key={line.title} class="stack">
            <div class="row">
              <h3>{line.title}</h3>
              <Copy text={line.text} />
            </div>
            <pre class="quote">{line.text}</pre>
          </div>
        ))}
      </div>
    </>
  );
}

function Outcome({
  called,
  busy,
  method,
  hint,
}: {
  called: Called | undefined;
  busy: boolean;
  method: Method;
  hint: string;
}) {
  const told = called?.failure && method.errors.find((error) => error.reason === called.failure?.reason)?.comment;
  return (
    <>
      <header>
        <h2>Answer</h2>
        {called?.failure && <Mark condition="bad">{called.failure.name}</Mark>}
        {called && !called.failure && (
          <Mark condition="good" pulse={called.open}>
            {called.open ? `open, ${plural(called.answers.length, "message")}` : "OK"}
          </Mark>
        )}
        <div class="aside small quiet figure">
          {called && length(called.milliseconds)}
          {called?.trace && <a href={href("traces", called.trace)}>Trace</a>}
        </div>
      </header>
      <div class="body stack">
        {!called && (
          <p class="small quiet">{hint || (busy ? "Waiting for the answer" : "Nothing has been called yet.")}</p>
        )}
        {called?.failure && <Failed failure={called.failure} told={told ?? ""} />}
        {called &&
          [...called.answers].reverse().map((answer, at) => (
            <pre key={called.answers.length - at} class="quote">
              {JSON.stringify(answer, null, 2)}
            </pre>
          ))}
      </div>
    </>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
