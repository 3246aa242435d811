/** The mesh at a glance: figures, the picture of who calls whom, and what is wrong. */

import { useState } from "preact/hooks";
import { type Edge, Kind, type Mesh, type Service } from "../gen/weft/operations/v1/mesh_pb";
import { ago, count, length, percent, rate } from "../model/format";
import { BOX, layout, line } from "../model/graph";
import { errorCondition, errorShare, headline, id, picture, serviceCondition, troubles, wayName } from "../model/mesh";
import { href } from "../model/route";
import { Mark, Spark } from "../parts/marks";
import { Empty, Loading } from "../parts/states";
import { ahead, history, link, mesh, now, stale } from "../wire/live";

export function OverviewPage() {
  const seen = mesh.value;
  return (
    <>
      <header>
        <h1>Overview</h1>
      </header>
      {seen ? (
        <Seen mesh={seen} />
      ) : (
        <div class="panel">
          {link.value.state === "denied" ? <Empty title="Nothing to show" /> : <Loading what="the mesh" />}
        </div>
      )}
    </>
  );
}

function Seen({ mesh: seen }: { mesh: Mesh }) {
  return (
    <div class={`stack ${stale.value ? "old" : ""}`}>
      <Figures mesh={seen} />
      <Troubles mesh={seen} />
      <Graph mesh={seen} />
    </div>
  );
}

function Figures({ mesh: seen }: { mesh: Mesh }) {
  const figures = headline(seen);
  const gateway = seen.services.find((service) => service.kind === Kind.GATEWAY);
  const errors = errorCondition(figures.errors);
  return (
    <div class="tiles">
      <div class="tile">
        <span class="name">Calls at the gateway</span>
        <span class="value">
          {rate(figures.calls)} <small>/s</small>
          <Spark figures={history.value.get(gateway?.name ?? "") ?? []} width={72} />
        </span>
      </div>
      <a class="tile" href={href("traces", "", { errors: "1" })}>
        <span class="name">Failed by a fault of the mesh</span>
        <span class={`value ${errors === "good" || errors === "idle" ? "" : errors}`}>{percent(figures.errors)}</span>
      </a>
      <div class="tile">
        <span class="name">99 of 100 within</span>
        <span class="value">{length(figures.p99)}</span>
      </div>
      <a class="tile" href={href("services")}>
        <span class="name">Processes ready</span>
        <span class={`value ${figures.ready < figures.processes ? "warn" : ""}`}>
          {figures.ready} <small>of {figures.processes}</small>
        </span>
      </a>
      <a class="tile" href={href("queues")}>
        <span class="name">Events waiting, dead</span>
        <span class={`value ${figures.deadLetters ? "warn" : ""}`}>
          {count(figures.waiting)} <small>waiting</small> {count(figures.deadLetters)} <small>dead</small>
        </span>
      </a>
      <a class="tile" href={href("alerts")}>
        <span class="name">Alerts</span>
        <span class={`value ${figures.firing ? "bad" : ""}`}>
          {figures.firing} <small>firing</small>
        </span>
      </a>
    </div>
  );
}

function Graph({ mesh: seen }: { mesh: Mesh }) {
  const [backstage, setBackstage] = useState(false);
  const [table, setTable] = useState(false);
  const [chosen, setChosen] = useState("");
  const shown = picture(seen, backstage);
  return (
    <section class="panel" aria-labelledby="ways">
      <header>
        <h2 id="ways">Who calls whom</h2>
        <div class="aside">
          <label class="tick">
            <input
              type="checkbox"
              checked={backstage}
              onChange={(event) => setBackstage(event.currentTarget.checked)}
            />
            registry and control plane
          </label>
          <fieldset class="tabs" aria-label="Form">
            <button type="button" aria-pressed={!table} onClick={() => setTable(false)}>
              Graph
            </button>
            <button type="button" aria-pressed={table} onClick={() => setTable(true)}>
              Table
            </button>
          </fieldset>
        </div>
      </header>
      {shown.nodes.length === 0 ? (
        <Empty title="Nothing runs yet">
          Parts appear here as they register. <code>weft status</code> shows what the supervisor waits for.
        </Empty>
      ) : table ? (
        <Ways edges={shown.edges} />
      ) : (
        <Drawing mesh={shown} chosen={chosen} choose={setChosen} />
      )}
    </section>
  );
}

function Drawing({
  mesh: shown,
  chosen,
  choose,
}: {
  mesh: ReturnType<typeof picture>;
  chosen: string;
  choose: (id: string) => void;
}) {
  const { places, width, height } = layout(shown.nodes, shown.edges);
  const beside = new Set(
    shown.edges
      .filter((edge) => edge.source === chosen || edge.target === chosen)
      .flatMap((edge) => [edge.source, edge.target]),
  );
  const dim = (...ids: string[]) =>
    chosen && beside.size > 0 && !ids.every((one) => one === chosen || beside.has(one)) ? "dim" : "";
  return (
    <svg
      class="graph"
      viewBox={`0 0 ${width} ${height}`}
      role="group"
      aria-label="Parts of the mesh and the calls between them"
      onMouseLeave={() => choose("")}
    >
      {shown.edges.map((edge) => (
        <Way
          key={`${edge.source} ${edge.target} ${edge.kind}`}
          edge={edge}
          places={places}
          look={chosen && edge.source !== chosen && edge.target !== chosen ? "dim" : ""}
          named={edge.source === chosen || edge.target === chosen}
        />
      ))}
      {shown.nodes.map((node) => (
        <Part
          key={node.id}
          service={node.service}
          at={places.get(node.id) ?? { x: 0, y: 0 }}
          look={dim(node.id)}
          choose={choose}
        />
      ))}
    </svg>
  );
}

function Part({
  service,
  at,
  look,
  choose,
}: {
  service: Service;
  at: { x: number; y: number };
  look: string;
  choose: (id: string) => void;
}) {
  const name = id(service.name);
  const condition = serviceCondition(service);
  const share = errorShare(service);
  const failing = errorCondition(share);
  const outside = service.kind === Kind.CLIENTS;
  const words = outside
    ? "outside"
    : `${service.readyProcesses} of ${Math.max(service.processes, service.size ?? 0)} ready`;
  const box = (
    <>
      <rect class="box" x={at.x} y={at.y} width={BOX.width} height={BOX.height} rx="9" />
      <rect class="strip" x={at.x + 10} y={at.y + 12} width="3.5" height={BOX.height - 24} rx="1.75" />
      <text class="title" x={at.x + 24} y={at.y + 24}>
        {name.length > 17 ? `${name.slice(0, 16)}…` : name}{" "}
      </text>
      <text class="said" x={at.x + 24} y={at.y + 44}>
        {words}
        {service.rate !== undefined && ` · ${rate(service.rate)}/s`}{" "}
      </text>
      {(failing === "warn" || failing === "bad") && (
        <text class={`said ${failing}`} x={at.x + BOX.width - 10} y={at.y + 24} text-anchor="end">
          {percent(share)}
        </text>
      )}
    </>
  );
  if (outside) return <g class={`part ${condition} ${look}`}>{box}</g>;
  return (
    <a
      class={`part ${condition} ${look}`}
      href={href("services", name)}
      onMouseEnter={() => choose(name)}
      onFocus={() => choose(name)}
      onBlur={() => choose("")}
    >
      {box}
    </a>
  );
}

function Way({
  edge,
  places,
  look,
  named,
}: {
  edge: Edge;
  places: ReadonlyMap<string, { x: number; y: number }>;
  look: string;
  named: boolean;
}) {
  const from = places.get(edge.source);
  const to = places.get(edge.target);
  if (!from || !to) return null;
  const { path, middle } = line(from, to);
  const failing = errorCondition(errorShare(edge));
  const still = !edge.rate;
  const width = still ? 1.2 : Math.min(6, 1.4 + Math.log10(1 + (edge.rate ?? 0)) * 1.5);
  // Figures on every line would hide the lines: ways that carry calls have theirs, the others while one looks at an end.
  const figures = named || failing === "bad" || (edge.kind === 1 && !still);
  return (
    <g class={`way ${failing} ${still ? "still" : ""} ${look}`}>
      <title>{toldOf(edge)}</title>
      <path class="line" d={path} stroke-width={width} />
      <path class="reach" d={path} />
      {figures && edge.rate !== undefined && (
        <text x={middle.x} y={middle.y - 5}>
          {rate(edge.rate)}/s{edge.p99Seconds !== undefined && ` · ${length(edge.p99Seconds * 1000)}`}
          {failing === "bad" && edge.p99Seconds === undefined && ` · ${percent(errorShare(edge))}`}
        </text>
      )}
    </g>
  );
}

function toldOf(edge: Edge): string {
  const figures = [
    edge.rate === undefined ? "not measured" : `${rate(edge.rate)} a second`,
    edge.errorRate ? `${percent(errorShare(edge))} failed` : "",
    edge.refusalRate ? `${rate(edge.refusalRate)} a second refused` : "",
    edge.p50Seconds === undefined ? "" : `half within ${length(edge.p50Seconds * 1000)}`,
    edge.p99Seconds === undefined ? "" : `99 of 100 within ${length(edge.p99Seconds * 1000)}`,
  ];
  return `${edge.source} ${wayName(edge.kind)} ${edge.target}: ${figures.filter(Boolean).join(", ")}`;
}

function Ways({ edges }: { edges: readonly Edge[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label="Calls between parts">
      <table>
        <thead>
          <tr>
            {["From", "", "To"].map((name) => (
              <th key={name} scope="col">
                {name || <span class="unseen">does</span>}
              </th>
            ))}
            {["per second", "failed", "refused /s", "half within", "99 of 100 within"].map((name) => (
              <th key={name} scope="col" class="number">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {edges.map((edge) => (
            <tr key={`${edge.source} ${edge.target} ${edge.kind}`}>
              <th scope="row">{edge.source}</th>
              <td class="quiet">{wayName(edge.kind)}</td>
              <td>{edge.target}</td>
              <td class="number">{rate(edge.rate)}</td>
              <td class={`number ${errorCondition(errorShare(edge)) === "bad" ? "bad" : ""}`}>
                {percent(errorShare(edge))}
              </td>
              <td class="number">{rate(edge.refusalRate)}</td>
              <td class="number">{length(edge.p50Seconds === undefined ? undefined : edge.p50Seconds * 1000)}</td>
              <td class="number">{length(edge.p99Seconds === undefined ? undefined : edge.p99Seconds * 1000)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** More than these say no more than that it is bad. */
const SHOWN = 12;

function Troubles({ mesh: seen }: { mesh: Mesh }) {
  const found = troubles(seen);
  if (found.length === 0) {
    return (
      <p class="panel calm">
        <Mark condition="good">
          Nothing is wrong: every part is ready, no call fails, no alert fires, no event lies dead.
        </Mark>
      </p>
    );
  }
  return (
    <section class="panel" aria-labelledby="wrong">
      <header>
        <h2 id="wrong">What is wrong now</h2>
        <span class="tally bad">{found.length}</span>
        {found.length > SHOWN && <span class="aside small quiet">the gravest {SHOWN}</span>}
      </header>
      <ul class="troubles">
        {found.slice(0, SHOWN).map((trouble) => (
          <li key={trouble.title + trouble.detail}>
            <a href={trouble.href}>
              <Mark condition={trouble.condition}>{trouble.title}</Mark>
            </a>
            <span class="small quiet cut" title={trouble.detail}>
              {trouble.detail}
            </span>
            <span class="small quiet figure">{trouble.since > 0 && ago(trouble.since, now.value + ahead.value)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
