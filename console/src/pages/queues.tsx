/** Queues of the workers, and the events that were put aside: why, what they say, and another try for them. */

import { useState } from "preact/hooks";
import type { DeadLetter, Queue } from "../gen/weft/operations/v1/queues_pb";
import { ago, bytes, count, percent, plural, rate } from "../model/format";
import { errorShare, id, moment } from "../model/mesh";
import { href } from "../model/route";
import { ask } from "../parts/ask";
import { Mark } from "../parts/marks";
import { restate, route } from "../parts/place";
import { Answer, Empty, Loading } from "../parts/states";
import { queues } from "../wire/clients";
import { ahead, link, mesh, now, stale } from "../wire/live";
import { type Query, useQuery } from "../wire/query";
import { operator } from "../wire/session";

/** A letter is to be seen within two seconds of its death, and each look takes its time. */
const REFRESH_MS = 1000;
const PAGE_SIZE = 200;

export function QueuesPage({ chosen }: { chosen: string }) {
  const seen = mesh.value;
  return (
    <>
      <header>
        <h1>Queues and dead letters</h1>
      </header>
      <section class={`panel ${stale.value ? "old" : ""}`} aria-label="Queues">
        {!seen ? (
          link.value.state === "denied" ? (
            <Empty title="Nothing to show" />
          ) : (
            <Loading what="queues" />
          )
        ) : seen.queues.length === 0 ? (
          <Empty title="No queue is known">Either no worker has ever run, or the broker does not answer.</Empty>
        ) : (
          <Table queues={seen.queues} chosen={chosen} />
        )}
      </section>
      <Letters queue={chosen || "-"} />
    </>
  );
}

function Table({ queues: all, chosen }: { queues: readonly Queue[]; chosen: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label="Queues, table">
      <table>
        <thead>
          <tr>
            <th scope="col">Queue</th>
            {["waiting", "for their next attempt", "dead", "deliveries /s", "failed"].map((name) => (
              <th key={name} scope="col" class="number">
                {name}
              </th>
            ))}
            <th scope="col">Taken by</th>
          </tr>
        </thead>
        <tbody>
          {all.map((queue) => {
            const name = id(queue.name);
            return (
              <tr key={queue.name} aria-selected={name === chosen}>
                <th scope="row">
                  <a href={href("queues", name === chosen ? "" : name)}>{name}</a>
                </th>
                <td class="number">{count(queue.waitingEvents)}</td>
                <td class="number">{count(queue.retriedEvents)}</td>
                <td class="number">
                  {queue.deadLetters ? (
                    <Mark condition="warn">{count(queue.deadLetters)}</Mark>
                  ) : (
                    count(queue.deadLetters)
                  )}
                </td>
                <td class="number">{rate(queue.rate)}</td>
                <td class="number">{percent(errorShare(queue))}</td>
                <td>{queue.service && <a href={href("services", queue.service)}>{queue.service}</a>}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function Letters({ queue }: { queue: string }) {
  const { query } = route.value;
  const parent = `queues/${queue}`;
  const filter = { parent, reason: query.reason ?? "", type: query.type ?? "" };
  const [picked, setPicked] = useState<ReadonlySet<string>>(new Set());
  const found = useQuery(
    JSON.stringify(filter),
    (signal) => queues.listDeadLetters({ ...filter, pageSize: PAGE_SIZE }, { signal, timeoutMs: 10_000 }),
    REFRESH_MS,
  );
  const set = (part: Record<string, string>) => restate("queues", queue === "-" ? "" : queue, { ...query, ...part });
  const there = new Set(found.data?.deadLetters.map((letter) => letter.name));
  const chosen = [...picked].filter((name) => there.has(name));
  return (
    <div class={query.letter ? "split even" : ""}>
      <section class="panel" aria-label="Dead letters">
        <header>
          <h2>Dead letters {queue !== "-" && `of ${queue}`}</h2>
          {found.data && <span class="tally">{count(found.data.totalSize)}</span>}
          <search class="aside filters">
            <label class="field">
              <span>Reason has</span>
              <input
                type="search"
                value={query.reason ?? ""}
                onInput={(event) => set({ reason: event.currentTarget.value })}
              />
            </label>
            <label class="field">
              <span>Type</span>
              <input
                type="search"
                value={query.type ?? ""}
                placeholder="OrderPlaced"
                onInput={(event) => set({ type: event.currentTarget.value })}
              />
            </label>
            {operator.value && (
              <Replay queue={queue} chosen={chosen} found={found} filter={filter} done={() => setPicked(new Set())} />
            )}
          </search>
        </header>
        <Answer of={found} what="dead letters">
          {(answer) =>
            answer.deadLetters.length === 0 ? (
              <Empty title={filter.reason || filter.type ? "No dead letter is like that" : "No dead letters"}>
                {filter.reason || filter.type ? "Ask for less." : "Every event was handled, or is still being tried."}
              </Empty>
            ) : (
              <LetterTable
                letters={answer.deadLetters}
                picked={picked}
                pick={setPicked}
                show={(letter) => set({ letter })}
                shown={query.letter ?? ""}
              />
            )
          }
        </Answer>
      </section>
      {query.letter && <Letter name={query.letter} close={() => set({ letter: "" })} />}
    </div>
  );
}

interface Filter {
  parent: string;
  reason: string;
  type: string;
}

function Replay({
  queue,
  chosen,
  found,
  filter,
  done,
}: {
  queue: string;
  chosen: string[];
  found: Query<{ totalSize: bigint }>;
  filter: Filter;
  done: () => void;
}) {
  const total = Number(found.data?.totalSize ?? 0n);
  const some = chosen.length > 0;
  // Ids belong to one queue: of several, each is asked for its own.
  const byQueue = new Map<string, string[]>();
  for (const name of chosen) {
    const [, of = "", , letter = ""] = name.split("/");
    byQueue.set(of, [...(byQueue.get(of) ?? []), decodeURIComponent(letter)]);
  }
  const replay = async () => {
    const all = !filter.reason && !filter.type;
    const wishes = some
      ? [...byQueue].map(([of, letterIds]) => ({ parent: `queues/${of}`, letterIds }))
      : [{ parent: filter.parent, reason: filter.reason, type: filter.type, all }];
    let sent = 0;
    let gone = 0;
    for (const wish of wishes) {
      const answer = await queues.replayDeadLetters(wish);
      sent += answer.replayed.length;
      gone += answer.missingLetterIds.length;
    }
    done();
    found.reload();
    return `${plural(sent, "event")} sent back to ${queue === "-" ? "their queues" : queue}.${gone ? ` ${gone} no longer lay there.` : ""}`;
  };
  return (
    <button
      type="button"
      class="main"
      disabled={!some && total === 0}
      onClick={() =>
        ask({
          title: `Replay ${plural(some ? chosen.length : total, "dead letter")}?`,
          body: (
            <p>
              Workers try them again, from their first attempt. An event that has taken effect by now takes none again;
              one that fails again comes back here.
            </p>
          ),
          deed: "Replay",
          grave: false,
          act: replay,
        })
      }
    >
      {some ? `Replay ${chosen.length}` : `Replay all${filter.reason || filter.type ? " of these" : ""}`}
    </button>
  );
}

interface LetterTableProps {
  letters: readonly DeadLetter[];
  picked: ReadonlySet<string>;
  pick: (names: ReadonlySet<string>) => void;
  show: (name: string) => void;
  shown: string;
}

function LetterTable({ letters, picked, pick, show, shown }: LetterTableProps) {
  const toggle = (name: string, on: boolean) => {
    const next = new Set(picked);
    if (on) next.add(name);
    else next.delete(name);
    pick(next);
  };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label="Dead letters, table">
      <table>
        <thead>
          <tr>
            <th scope="col">
              <input
                type="checkbox"
                aria-label="All shown"
                checked={letters.every((letter) => picked.has(letter.name))}
                onChange={(event) =>
                  pick(new Set(event.currentTarget.checked ? letters.map((letter) => letter.name) : []))
                }
              />
            </th>
            <th scope="col">Event</th>
            <th scope="col">Reason</th>
            <th scope="col" class="number">
              tried
            </th>
            <th scope="col" class="number">
              size
            </th>
            <th scope="col" class="number">
              dead for
            </th>
          </tr>
        </thead>
        <tbody>
          {letters.map((letter) => (
            <tr key={letter.name} aria-selected={letter.name === shown}>
              <td>
                <input
                  type="checkbox"
                  aria-label={`Pick ${letter.name}`}
                  checked={picked.has(letter.name)}
                  onChange={(event) => toggle(letter.name, event.currentTarget.checked)}
                />
              </td>
              <th scope="row">
                <button type="button" class="bare" onClick={() => show(letter.name)}>
                  {id(letter.type).split(".").pop() || "unknown"}
                </button>{" "}
                <span class="quiet">{letter.name.split("/")[1]}</span>
              </th>
              <td class="loose">{letter.reason}</td>
              <td class="number">{letter.deliveries}</td>
              <td class="number">{bytes(letter.sizeBytes)}</td>
              <td class="number">{ago(moment(letter.parkTime), now.value + ahead.value)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Letter({ name, close }: { name: string; close: () => void }) {
  const found = useQuery(name, (signal) => queues.getDeadLetter({ name }, { signal }));
  return (
    <section class="panel" aria-label="The event">
      <header>
        <h2>The event</h2>
        <div class="aside">
          <button type="button" onClick={close}>
            Close
          </button>
        </div>
      </header>
      <Answer of={found} what="the event">
        {(letter) => (
          <div class="body stack">
            <dl class="facts">
              <dt>type</dt>
              <dd class="mono">{letter.type || "not said"}</dd>
              <dt>reason</dt>
              <dd>{letter.reason}</dd>
              <dt>copies</dt>
              <dd>{letter.copies}</dd>
              <dt>SHA-256</dt>
              <dd class="mono">{letter.sha256}</dd>
            </dl>
            {letter.trace && <a href={href("traces", id(letter.trace))}>Trace of the call that led to it</a>}
            {letter.eventJson ? (
              <pre class="quote">{pretty(letter.eventJson)}</pre>
            ) : (
              <Empty title="It cannot be read">{letter.unreadableReason}</Empty>
            )}
          </div>
        )}
      </Answer>
    </section>
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
