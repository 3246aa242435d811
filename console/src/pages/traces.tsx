/** Traces by what they are about: the newest first, only those in sight in the document. */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ListTracesResponse, TraceSummary } from "../gen/weft/operations/v1/traces_pb";
import { type Failure, fromError } from "../model/failure";
import { clock, count, length } from "../model/format";
import { hue, id, moment } from "../model/mesh";
import { href } from "../model/route";
import { rowsInSight } from "../model/window";
import { Mark } from "../parts/marks";
import { restate, route } from "../parts/place";
import { Answer, Empty, Failed } from "../parts/states";
import { traces } from "../wire/clients";
import { mesh, now } from "../wire/live";
import { useQuery } from "../wire/query";

const PAGE_SIZE = 200;
const ROW = 34;
const REFRESH_MS = 2000;
const PERIODS = [
  { value: "", text: "any time" },
  { value: "5", text: "last 5 minutes" },
  { value: "60", text: "last hour" },
  { value: "1440", text: "last day" },
];

/** A question, and its answer: a page's token goes on in the list of the same question alone. */
interface Listed {
  question: ReturnType<typeof asked>;
  answer: ListTracesResponse;
}

async function listed(question: Listed["question"], signal: AbortSignal): Promise<Listed> {
  return { question, answer: await traces.listTraces(question, { signal }) };
}

function asked(query: Record<string, string>) {
  const minutes = Number(query.minutes);
  return {
    service: query.service ?? "",
    operation: query.operation ?? "",
    errorsOnly: query.errors === "1",
    minDurationMs: Math.max(0, Math.floor(Number(query.slow) || 0)),
    pageSize: PAGE_SIZE,
    ...(minutes > 0 ? { startTime: timestampFromMs(Date.now() - minutes * 60_000) } : {}),
  };
}

export function TracesPage() {
  const { query } = route.value;
  const question = JSON.stringify(query);
  // A list that is read does not move under the reader's eyes: it is renewed while its top is in sight.
  const [top, setTop] = useState(true);
  const first = useQuery(question, (signal) => listed(asked(query), signal), top ? REFRESH_MS : 0);
  return (
    <>
      <header>
        <h1>Traces</h1>
        <Search />
      </header>
      <section class="panel traces" aria-label="Traces found">
        <Answer of={first} what="traces">
          {(found) =>
            found.answer.traces.length === 0 ? (
              <None filtered={Object.keys(query).length > 0} />
            ) : (
              <Found key={question} first={found} scrolled={setTop} />
            )
          }
        </Answer>
      </section>
    </>
  );
}

function None({ filtered }: { filtered: boolean }) {
  return filtered ? (
    <Empty title="No trace is like that">
      Ask for less, or <a href={href("traces")}>look at all of them</a>.
    </Empty>
  ) : (
    <Empty title="No trace yet">
      A trace is kept of every call. <code>weft demo</code> makes some.
    </Empty>
  );
}

function Search() {
  const { query } = route.value;
  const set = (part: Record<string, string>) => restate("traces", "", { ...query, ...part });
  const services = [...new Set((mesh.value?.services ?? []).map((service) => id(service.name)))].sort();
  const trace = (text: string) => /^[0-9a-f]{32}$/.test(text.trim());
  return (
    <search class="aside filters">
      <label class="field">
        <span>Service</span>
        <select value={query.service ?? ""} onChange={(event) => set({ service: event.currentTarget.value })}>
          <option value="">any</option>
          {(query.service && !services.includes(query.service) ? [query.service, ...services] : services).map(
            (name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ),
          )}
        </select>
      </label>
      <label class="field">
        <span>Operation, or a trace's id</span>
        <input
          type="search"
          value={query.operation ?? ""}
          placeholder="PlaceOrder"
          onInput={(event) => {
            const text = event.currentTarget.value;
            if (trace(text)) location.hash = href("traces", text.trim());
            else set({ operation: text });
          }}
        />
      </label>
      <label class="field">
        <span>At least, in ms</span>
        <input
          type="number"
          min="0"
          style={{ width: "84px" }}
          value={query.slow ?? ""}
          onInput={(event) => set({ slow: event.currentTarget.value })}
        />
      </label>
      <label class="field">
        <span>When</span>
        <select value={query.minutes ?? ""} onChange={(event) => set({ minutes: event.currentTarget.value })}>
          {PERIODS.map((period) => (
            <option key={period.value} value={period.value}>
              {period.text}
            </option>
          ))}
        </select>
      </label>
      <label class="tick" style={{ minHeight: "30px" }}>
        <input
          type="checkbox"
          checked={query.errors === "1"}
          onChange={(event) => set({ errors: event.currentTarget.checked ? "1" : "" })}
        />
        only errors
      </label>
    </search>
  );
}

/** The first page as it is renewed, and behind it the older ones that were asked for. */
function Found({ first: { question, answer: first }, scrolled }: { first: Listed; scrolled: (top: boolean) => void }) {
  const [older, setOlder] = useState<
    { question: Listed["question"]; found: TraceSummary[]; next: string } | undefined
  >();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | undefined>();
  const names = new Set(first.traces.map((trace) => trace.name));
  const all = [...first.traces, ...(older?.found ?? []).filter((trace) => !names.has(trace.name))];
  const next = older ? older.next : first.nextPageToken;
  const more = async () => {
    setBusy(true);
    setFailure(undefined);
    try {
      const same = older?.question ?? question;
      const answer = await traces.listTraces({ ...same, pageToken: next });
      const kept = older?.found ?? first.traces;
      setOlder({ question: same, found: [...kept, ...answer.traces], next: answer.nextPageToken });
    } catch (error) {
      setFailure(fromError(error));
    }
    setBusy(false);
  };
  return (
    <>
      <div class="heads" aria-hidden="true">
        <span>Began</span>
        <span>Service</span>
        <span>Operation</span>
        <span class="wide">How long</span>
        <span class="wide number">Spans</span>
        <span>End</span>
      </div>
      <Rows all={all} scrolled={scrolled} />
      <footer class="body row">
        <span class="small quiet">
          {count(all.length)} traces{next && ", and more before them"}
        </span>
        {next && (
          <button type="button" disabled={busy} onClick={more}>
            {busy ? "Looking further back" : `${PAGE_SIZE} older ones`}
          </button>
        )}
        {failure && <Failed failure={failure} retry={more} />}
      </footer>
    </>
  );
}

function Rows({ all, scrolled }: { all: readonly TraceSummary[]; scrolled: (top: boolean) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const [from, setFrom] = useState(0);
  const [height, setHeight] = useState(600);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const seen = new ResizeObserver(() => setHeight(element.clientHeight));
    seen.observe(element);
    return () => seen.disconnect();
  }, []);
  const longest = Math.max(...all.map((trace) => trace.durationSeconds), 1e-6);
  const { first, end } = rowsInSight(all.length, ROW, from, height);
  return (
    <div
      ref={box}
      class="virtual"
      role="table"
      aria-label="Traces"
      aria-rowcount={all.length}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
      tabIndex={0}
      onScroll={(event) => {
        setFrom(event.currentTarget.scrollTop);
        scrolled(event.currentTarget.scrollTop < ROW);
      }}
    >
      <div role="rowgroup" style={{ height: `${all.length * ROW}px` }}>
        {all.slice(first, end).map((trace, at) => (
          <Row key={trace.name} trace={trace} at={first + at} longest={longest} />
        ))}
      </div>
    </div>
  );
}

function Row({ trace, at, longest }: { trace: TraceSummary; at: number; longest: number }) {
  const began = moment(trace.startTime);
  return (
    // biome-ignore lint/a11y/useFocusableInteractive: the link in it takes the focus
    <div role="row" aria-rowindex={at + 1} style={{ transform: `translateY(${at * ROW}px)` }}>
      <span role="cell" class="figure quiet" title={new Date(began).toLocaleString()}>
        {now.value - began > 86_400_000 ? new Date(began).toLocaleDateString() : clock(began)}
      </span>
      <span role="cell" class={`cut ${hue(trace.service)}`}>
        <span
          class="dot"
          style={{
            display: "inline-block",
            background: "var(--hue)",
            width: "8px",
            height: "8px",
            borderRadius: "2px",
            marginRight: "8px",
          }}
        />
        {trace.service}
      </span>
      <span role="cell" class="cut">
        <a href={href("traces", id(trace.name))}>{trace.operation || "no name"}</a>
      </span>
      <span role="cell" class="figure wide">
        <span class="meter" aria-hidden="true">
          <i style={{ width: `${(trace.durationSeconds / longest) * 100}%` }} />
        </span>
        {length(trace.durationSeconds * 1000)}
      </span>
      <span role="cell" class="number wide">
        {trace.spans}
      </span>
      <span role="cell">
        {trace.errors > 0 ? <Mark condition="bad">{trace.errors} failed</Mark> : <Mark condition="good">well</Mark>}
      </span>
    </div>
  );
}
