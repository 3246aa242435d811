/** What the mesh stands on: databases, cache, registry; who tells about it, and who has which configuration. */

import type { ComponentChildren } from "preact";
import { type Mesh, Proxy_State, Source_State } from "../gen/weft/operations/v1/mesh_pb";
import { ago, bytes, count, length, percent, rate } from "../model/format";
import { type Condition, moment, sourceName } from "../model/mesh";
import { href } from "../model/route";
import { Mark, Meter } from "../parts/marks";
import { Empty, Loading } from "../parts/states";
import { ahead, link, mesh, now, stale } from "../wire/live";

export function HealthPage() {
  const seen = mesh.value;
  return (
    <>
      <header>
        <h1>Stores</h1>
        <span class="quiet">databases, cache, registry and configuration</span>
      </header>
      {!seen && (
        <div class="panel">
          {link.value.state === "denied" ? <Empty title="Nothing to show" /> : <Loading what="stores" />}
        </div>
      )}
      {seen && (
        <div class={`stack ${stale.value ? "old" : ""}`}>
          <Databases mesh={seen} />
          <div class="columns">
            <Registry mesh={seen} />
            <CacheNodes mesh={seen} />
            <CacheEntries mesh={seen} />
            <Lanes mesh={seen} />
            <Sources mesh={seen} />
            <Proxies mesh={seen} />
          </div>
        </div>
      )}
    </>
  );
}

/** A cell: text, or a figure that stands to the right. */
type Cell = { figure: ComponentChildren } | ComponentChildren;

interface PanelProps {
  title: string;
  empty: string;
  /** Names of columns; those that end in a bar hold figures. */
  heads: string[];
  rows: { key: string; cells: Cell[] }[];
}

const isFigure = (cell: Cell): cell is { figure: ComponentChildren } =>
  cell !== null && typeof cell === "object" && "figure" in cell;

function Panel({ title, empty, heads, rows }: PanelProps) {
  return (
    <section class="panel" aria-label={title}>
      <header>
        <h2>{title}</h2>
      </header>
      {rows.length === 0 ? (
        <Empty title={empty} />
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
        <section class="scroll" tabIndex={0} aria-label={`${title}, table`}>
          <table>
            <thead>
              <tr>
                {heads.map((head) => (
                  <th key={head} scope="col" class={head.endsWith("|") ? "number" : ""}>
                    {head.replace("|", "")}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ key, cells: [name, ...cells] }) => (
                <tr key={key}>
                  <th scope="row">{name as ComponentChildren}</th>
                  {cells.map((cell, at) => (
                    <td key={heads[at + 1]} class={isFigure(cell) ? "number" : ""}>
                      {isFigure(cell) ? cell.figure : cell}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </section>
  );
}

const up = (value: boolean | undefined) => (
  <Mark condition={value === undefined ? "idle" : value ? "good" : "bad"}>
    {value === undefined ? "not measured" : value ? "answers" : "silent"}
  </Mark>
);

/** An outbox whose oldest event is older than this is not drained as it should be. */
const OUTBOX_OLD_S = 30;

function Databases({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="Databases"
      empty="No database is known"
      heads={[
        "Database",
        "Server",
        "Leader",
        "transactions /s|",
        "run again /s|",
        "failed /s|",
        "connections|",
        "in the outbox|",
        "the oldest for|",
      ]}
      rows={seen.databases.map((database) => ({
        key: database.name,
        cells: [
          database.name,
          up(database.up),
          database.leader || "–",
          { figure: rate(database.transactionRate) },
          { figure: rate(database.retryRate) },
          { figure: <span class={database.errorRate ? "bad" : ""}>{rate(database.errorRate)}</span> },
          { figure: count(database.connections) },
          { figure: count(database.outboxEvents) },
          {
            figure: (
              <span class={(database.outboxAgeSeconds ?? 0) > OUTBOX_OLD_S ? "warn" : ""}>
                {database.outboxAgeSeconds === undefined ? "–" : length(database.outboxAgeSeconds * 1000)}
              </span>
            ),
          },
        ],
      }))}
    />
  );
}

function filled(used: bigint | undefined, limit: bigint | undefined): ComponentChildren {
  if (used === undefined) return "–";
  return (
    <>
      {limit ? <Meter share={Number(used) / Number(limit)} /> : null}
      {bytes(used)}
      {limit ? <span class="quiet"> of {bytes(limit)}</span> : null}
    </>
  );
}

function Registry({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="Registry (etcd)"
      empty="No member is known"
      heads={["Member", "State", "Role", "Space", "99 of 100 commits|"]}
      rows={seen.registryMembers.map((member) => ({
        key: member.process,
        cells: [
          member.process,
          member.up && member.hasLeader === false ? <Mark condition="bad">without a leader</Mark> : up(member.up),
          member.leader ? <span class="tag good">leader</span> : <span class="quiet">follower</span>,
          filled(member.sizeBytes, member.limitBytes),
          { figure: length(member.commitP99Seconds === undefined ? undefined : member.commitP99Seconds * 1000) },
        ],
      }))}
    />
  );
}

function CacheNodes({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="Cache (Memcached)"
      empty="No node is known"
      heads={["Node", "State", "Entries|", "Space", "evicted /s|"]}
      rows={seen.cacheNodes.map((node) => ({
        key: node.process,
        cells: [
          node.process,
          up(node.up),
          { figure: count(node.entries) },
          filled(node.usedBytes, node.limitBytes),
          { figure: rate(node.evictionRate) },
        ],
      }))}
    />
  );
}

function CacheEntries({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="What the cache saves"
      empty="No method is cached"
      heads={["Method", "there", "look-ups /s|", "failed /s|"]}
      rows={seen.cacheEntries.map((entry) => ({
        key: entry.method,
        cells: [
          <a key="method" href={href("contracts", entry.method)}>
            {entry.method.split("/").pop()}
          </a>,
          entry.hitRatio === undefined ? (
            "–"
          ) : (
            <span class="figure">
              <Meter share={entry.hitRatio} warnAt={2} badAt={2} />
              {percent(entry.hitRatio)}
            </span>
          ),
          { figure: rate(entry.rate) },
          { figure: rate(entry.errorRate) },
        ],
      }))}
    />
  );
}

function Lanes({ mesh: seen }: { mesh: Mesh }) {
  if (seen.lanes.length === 0) return null;
  return (
    <Panel
      title="Lanes"
      empty=""
      heads={["Lane", "State", "Services", "of the subjects|"]}
      rows={seen.lanes.map((lane) => ({
        key: lane.name,
        cells: [
          lane.name,
          <Mark key="state" condition={lane.state === "rolled back" ? "bad" : "good"}>
            {lane.state} {lane.reason}
          </Mark>,
          lane.services.join(", "),
          { figure: percent(lane.percent / 100) },
        ],
      }))}
    />
  );
}

function Sources({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="Who tells"
      empty="Nobody tells of the mesh"
      heads={["Source", "State", "Why", "heard|"]}
      rows={seen.sources.map((source) => ({
        key: String(source.kind),
        cells: [
          sourceName(source.kind),
          up(source.state === Source_State.UNSPECIFIED ? undefined : source.state === Source_State.OK),
          <span key="why" class="quiet">
            {source.reason || "–"}
          </span>,
          { figure: ago(moment(source.answerTime), now.value + ahead.value) },
        ],
      }))}
    />
  );
}

const PROXY: Record<Proxy_State, { word: string; condition: Condition }> = {
  [Proxy_State.UNSPECIFIED]: { word: "not known", condition: "idle" },
  [Proxy_State.SYNCED]: { word: "has all", condition: "good" },
  [Proxy_State.STALE]: { word: "behind", condition: "warn" },
  [Proxy_State.NACKED]: { word: "refused", condition: "bad" },
};

function Proxies({ mesh: seen }: { mesh: Mesh }) {
  return (
    <Panel
      title="Configuration"
      empty="No client is connected to a control plane"
      heads={["Client", "State", "From", "Version"]}
      rows={seen.proxies.map((proxy) => {
        const { word, condition } = PROXY[proxy.state] ?? PROXY[Proxy_State.UNSPECIFIED];
        return {
          key: `${proxy.node} ${proxy.controlPlane}`,
          cells: [
            proxy.node,
            <Mark key="state" condition={condition}>
              {word}
              {proxy.state === Proxy_State.STALE && ` for ${length(proxy.staleSeconds * 1000)}`}
              {proxy.refusals.length > 0 && `: ${proxy.refusals.join("; ")}`}
            </Mark>,
            <span key="from" class="quiet">
              {proxy.controlPlane}
            </span>,
            <code key="version" class="quiet">
              {proxy.version.slice(0, 12)}
            </code>,
          ],
        };
      })}
    />
  );
}
