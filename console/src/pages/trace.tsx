/** One trace: its waterfall, and of a chosen span what it says and what processes wrote in their logs meanwhile. */

import { useState } from "preact/hooks";
import { type Span, Span_Status, type Trace } from "../gen/weft/operations/v1/traces_pb";
import { clock, length, plural } from "../model/format";
import { hue, id, moment } from "../model/mesh";
import { href } from "../model/route";
import { ticks, waterfall } from "../model/waterfall";
import { Mark } from "../parts/marks";
import { restate, route } from "../parts/place";
import { Answer, Empty } from "../parts/states";
import { traces } from "../wire/clients";
import { useQuery } from "../wire/query";

/** Spans of a call come in for a while after it has ended. */
const REFRESH_MS = 3000;

export function TracePage({ trace }: { trace: string }) {
  const found = useQuery(trace, (signal) => traces.getTrace({ name: `traces/${trace}` }, { signal }), REFRESH_MS);
  return (
    <>
      <header>
        <h1>Trace</h1>
        <code class="quiet">{trace}</code>
        <a href={href("traces")}>All traces</a>
        <Copy text={`weft explain ${trace}`} />
      </header>
      {found.loading || found.data === undefined ? (
        <section class="panel" aria-label="Trace">
          <Answer of={found} what="the trace">
            {() => null}
          </Answer>
        </section>
      ) : (
        <Shown trace={found.data} />
      )}
    </>
  );
}

export function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setDone(true);
  };
  return (
    <button type="button" onClick={copy} title={text}>
      {done ? "Copied" : `Copy \`${text.split(" ").slice(0, 2).join(" ")}\``}
    </button>
  );
}

interface Timed extends Span {
  id: string;
  parent: string;
  start: number;
  duration: number;
}

function Shown({ trace }: { trace: Trace }) {
  const { query } = route.value;
  const spans: Timed[] = trace.spans.map((span) => ({
    ...span,
    id: span.spanId,
    parent: span.parentSpanId,
    start: span.offsetSeconds * 1000,
    duration: span.durationSeconds * 1000,
  }));
  const fall = waterfall(spans);
  const failed = spans.find((span) => span.status === Span_Status.ERROR);
  // Whoever comes by an error is shown the error: the deepest span that failed is where it began.
  const deepest = [...fall.rows]
    .filter((row) => row.span.status === Span_Status.ERROR)
    .sort((one, other) => other.depth - one.depth)[0];
  const chosen = fall.rows.find((row) => row.span.id === query.span) ?? deepest ?? fall.rows[0];
  if (!chosen) return <Empty title="No span of it was kept" />;
  return (
    <div class="split">
      <section class="panel" aria-label="Waterfall">
        <header>
          <h2>{fall.rows[0]?.span.operation}</h2>
          {failed ? <Mark condition="bad">failed</Mark> : <Mark condition="good">well</Mark>}
          <div class="aside small quiet figure">
            {clock(moment(trace.startTime))} · {length(fall.duration)} · {plural(spans.length, "span")} of{" "}
            {plural(trace.services.length, "service")}
          </div>
        </header>
        <Fall
          rows={fall.rows}
          duration={fall.duration}
          chosen={chosen.span.id}
          choose={(span) => restate("traces", id(trace.name), { ...query, span })}
        />
      </section>
      <Detail trace={id(trace.name)} span={chosen.span} own={chosen.own} />
    </div>
  );
}

type Rows = ReturnType<typeof waterfall<Timed>>["rows"];

function Fall({
  rows,
  duration,
  chosen,
  choose,
}: {
  rows: Rows;
  duration: number;
  chosen: string;
  choose: (span: string) => void;
}) {
  const walk = (event: KeyboardEvent) => {
    const step =
      event.key === "ArrowDown" ? "nextElementSibling" : event.key === "ArrowUp" ? "previousElementSibling" : undefined;
    const next = step && (event.target as Element)[step];
    if (next instanceof HTMLButtonElement) {
      event.preventDefault();
      next.focus();
    }
  };
  return (
    <div class="fall scroll">
      <div class="axis" aria-hidden="true">
        <span>Step</span>
        <span class="track">
          {ticks(duration).map((mark) => (
            <span key={mark} style={{ left: `${(mark / Math.max(duration, 1e-6)) * 100}%` }}>
              {length(mark)}
            </span>
          ))}
        </span>
        <span class="number">Took</span>
      </div>
      <fieldset
        style={{ border: 0, margin: 0, padding: 0, minWidth: 0 }}
        aria-label="Spans; up and down go from one to the next"
        onKeyDown={walk}
      >
        {rows.map(({ span, depth, left, width, orphan }) => (
          <button
            key={span.id}
            type="button"
            class={`span ${hue(span.service)} ${span.status === Span_Status.ERROR ? "failed" : ""}`}
            aria-pressed={span.id === chosen}
            onClick={() => choose(span.id)}
          >
            <span class="label" style={{ paddingLeft: `${Math.min(depth, 14) * 14}px` }}>
              {span.status === Span_Status.ERROR ? (
                <Mark condition="bad">
                  <span class="unseen">failed</span>
                </Mark>
              ) : (
                <span class="dot" />
              )}
              <span class="cut">
                {orphan && <span class="quiet">… </span>}
                <span title={span.operation}>{short(span.operation)}</span> <span class="quiet">{span.service}</span>
              </span>
            </span>
            <span class="track">
              <span class="bar" style={{ left: `${left}%`, width: `${width}%` }} />
            </span>
            <span class="number">{length(span.duration)}</span>
          </button>
        ))}
      </fieldset>
    </div>
  );
}

/** Without its package: `OrderService/PlaceOrder`. */
const short = (operation: string) => operation.replace(/^(?:[a-z][a-z0-9_]*\.)+(?=[A-Z])/, "");

function Detail({ trace, span, own }: { trace: string; span: Timed; own: number }) {
  const attributes = Object.entries(span.attributes).sort(([one], [other]) => one.localeCompare(other));
  return (
    <aside class="stack" aria-label="The chosen span">
      <section class="panel" aria-label="Span">
        <header>
          <h2 class="wrap">{span.operation}</h2>
        </header>
        <div class="body stack">
          {span.status === Span_Status.ERROR && (
            <div class="failure">
              <h3>Failed</h3>
              <p class="wrap">{span.statusMessage || "It does not say why; its attributes may."}</p>
            </div>
          )}
          <dl class="facts">
            <dt>service</dt>
            <dd>
              <a href={href("services", span.service)}>{span.service}</a>
            </dd>
            <dt>kind</dt>
            <dd>{span.kind}</dd>
            <dt>began</dt>
            <dd class="figure">{length(span.start)} after the trace</dd>
            <dt>took</dt>
            <dd class="figure">
              {length(span.duration)}, {length(own)} of its own
            </dd>
            {attributes.map(([name, value]) => [
              <dt key={name} class="cut" title={name}>
                {name}
              </dt>,
              <dd key={`${name} value`} class="mono">
                {value}
              </dd>,
            ])}
          </dl>
          {span.events.map((event) => (
            <div key={`${event.event} ${moment(event.eventTime)}`} class="small">
              <strong>{event.event}</strong> <span class="quiet figure">{clock(moment(event.eventTime))}</span>
              {Object.entries(event.attributes).map(([name, value]) => (
                <pre key={name} class="quote">
                  {name}: {value}
                </pre>
              ))}
            </div>
          ))}
          {span.links.map((link) => (
            <a key={link} href={href("traces", id(link))}>
              Trace it belongs to
            </a>
          ))}
        </div>
      </section>
      <Logs trace={trace} span={span.id} />
    </aside>
  );
}

function Logs({ trace, span }: { trace: string; span: string }) {
  const [whole, setWhole] = useState(false);
  const of = whole ? "" : span;
  const found = useQuery(`${trace} ${of}`, (signal) =>
    traces.listTraceLogs({ parent: `traces/${trace}`, spanId: of }, { signal }),
  );
  return (
    <section class="panel" aria-label="Logs">
      <header>
        <h2>Logs</h2>
        <div class="aside">
          <label class="tick">
            <input type="checkbox" checked={whole} onChange={(event) => setWhole(event.currentTarget.checked)} />
            of the whole trace
          </label>
        </div>
      </header>
      <Answer of={found} what="logs">
        {(answer) =>
          answer.entries.length === 0 ? (
            <Empty title="Nothing was logged">
              {whole ? "No process wrote a line for this trace." : "Its process wrote no line for this span."}
            </Empty>
          ) : (
            <ul class="body stack">
              {answer.entries.map((entry) => (
                <li key={`${entry.process} ${moment(entry.logTime)} ${entry.message}`} class="small wrap">
                  <span class="quiet figure">{clock(moment(entry.logTime))}</span>{" "}
                  <span class="tag">{entry.process}</span>{" "}
                  <span class={entry.level === "error" ? "bad" : entry.level === "warning" ? "warn" : "quiet"}>
                    {entry.level}
                  </span>{" "}
                  {entry.message}
                </li>
              ))}
              {answer.truncated && <li class="small quiet">There is more than is shown here.</li>}
            </ul>
          )
        }
      </Answer>
    </section>
  );
}
