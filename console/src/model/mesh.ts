/** What a mesh looks like at a glance: how each part does, where it stands, what is wrong. */

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Alert_State } from "../gen/weft/operations/v1/alerts_pb";
import {
  type Edge,
  Edge_Kind,
  Kind,
  type Mesh,
  type Process,
  Process_State,
  type Service,
  Source_Kind,
  Source_State,
} from "../gen/weft/operations/v1/mesh_pb";
import { percent } from "./format";
import { href } from "./route";

/** How something does. `idle`: nothing is known, or nothing is to be said. */
export type Condition = "good" | "warn" | "bad" | "idle";

/** Milliseconds since the epoch; 0 where it is not said. */
export function moment(at: Timestamp | undefined): number {
  return at ? Number(at.seconds) * 1000 + at.nanos / 1e6 : 0;
}

/** The id of a resource: the last part of its name. */
export function id(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

/** Failures above this share of the calls are worth a word, and above the second a shout. */
const ERRORS_WARN = 0.001;
const ERRORS_BAD = 0.02;

export function errorShare(part: { rate?: number | undefined; errorRate?: number | undefined }): number | undefined {
  if (part.errorRate === undefined || part.rate === undefined) return undefined;
  return part.rate > 0 ? Math.min(1, part.errorRate / part.rate) : part.errorRate > 0 ? 1 : 0;
}

export function errorCondition(share: number | undefined): Condition {
  if (share === undefined) return "idle";
  return share >= ERRORS_BAD ? "bad" : share >= ERRORS_WARN ? "warn" : "good";
}

export function serviceCondition(service: Service): Condition {
  if (service.kind === Kind.CLIENTS) return "idle";
  const errors = errorCondition(errorShare(service));
  if (errors === "bad" || (service.processes > 0 && service.readyProcesses === 0)) return "bad";
  if (errors === "warn" || service.readyProcesses < Math.max(service.processes, service.size ?? 0)) return "warn";
  return service.processes === 0 ? "idle" : "good";
}

const PROCESS: Record<Process_State, { word: string; condition: Condition }> = {
  [Process_State.UNSPECIFIED]: { word: "not known", condition: "idle" },
  [Process_State.STARTING]: { word: "starting", condition: "warn" },
  [Process_State.READY]: { word: "ready", condition: "good" },
  [Process_State.DRAINING]: { word: "draining", condition: "warn" },
  [Process_State.DOWN]: { word: "down", condition: "bad" },
};

export function processState(process: Process): { word: string; condition: Condition } {
  if (process.quarantined) return { word: "quarantined", condition: "bad" };
  return PROCESS[process.state] ?? PROCESS[Process_State.UNSPECIFIED];
}

const KINDS: Record<Kind, string> = {
  [Kind.UNSPECIFIED]: "part",
  [Kind.CLIENTS]: "callers",
  [Kind.GATEWAY]: "gateway",
  [Kind.SERVICE]: "service",
  [Kind.WORKER]: "worker",
  [Kind.CONTROL_PLANE]: "control plane",
  [Kind.ETCD]: "registry",
  [Kind.MEMCACHED]: "cache",
  [Kind.RABBITMQ]: "broker",
  [Kind.DATABASE]: "database",
  [Kind.MONITOR]: "monitor",
};

export const kindName = (kind: Kind): string => KINDS[kind] ?? "part";

const TIERS: Partial<Record<Kind, number>> = {
  [Kind.CLIENTS]: 0,
  [Kind.GATEWAY]: 1,
  [Kind.SERVICE]: 2,
  [Kind.MEMCACHED]: 3,
  [Kind.DATABASE]: 3,
  [Kind.RABBITMQ]: 3,
  [Kind.ETCD]: 3,
  [Kind.WORKER]: 4,
  [Kind.CONTROL_PLANE]: 4,
  [Kind.MONITOR]: 5,
};

/** What configures and watches; the picture of calls and events is clearer without. */
const BACKSTAGE_EDGES = new Set<Edge_Kind>([Edge_Kind.REGISTRY, Edge_Kind.CONFIGURATION]);

export interface Picture {
  nodes: { id: string; tier: number; service: Service }[];
  edges: Edge[];
}

/** Parts and ways of the overview. Without `backstage` only what calls and events pass through. */
export function picture(mesh: Mesh, backstage: boolean): Picture {
  const known = new Map(mesh.services.map((service) => [id(service.name), service]));
  const edges = mesh.edges.filter(
    (edge) => known.has(edge.source) && known.has(edge.target) && (backstage || !BACKSTAGE_EDGES.has(edge.kind)),
  );
  const joined = new Set(edges.flatMap((edge) => [edge.source, edge.target]));
  const called = new Set(
    edges
      .filter(
        (edge) =>
          edge.kind === Edge_Kind.CALLS && known.get(edge.source)?.kind === Kind.SERVICE && edge.source !== edge.target,
      )
      .map((edge) => edge.target),
  );
  const nodes = [...known]
    .filter(
      ([name, { kind }]) =>
        joined.has(name) || kind === Kind.SERVICE || kind === Kind.GATEWAY || (backstage && kind !== Kind.MONITOR),
    )
    .map(([name, service]) => ({
      id: name,
      // A service that others call stands behind them.
      tier: (TIERS[service.kind] ?? 5) + (service.kind === Kind.SERVICE && called.has(name) ? 0.5 : 0),
      service,
    }));
  return { nodes, edges };
}

const WAYS: Record<Edge_Kind, string> = {
  [Edge_Kind.UNSPECIFIED]: "reaches",
  [Edge_Kind.CALLS]: "calls",
  [Edge_Kind.DATABASE]: "transactions in",
  [Edge_Kind.CACHE]: "look-ups in",
  [Edge_Kind.PUBLISH]: "publishes to",
  [Edge_Kind.DELIVER]: "delivers to",
  [Edge_Kind.REGISTRY]: "registers with",
  [Edge_Kind.CONFIGURATION]: "configures",
  [Edge_Kind.MAIL]: "sends mail to",
};

export const wayName = (kind: Edge_Kind): string => WAYS[kind] ?? "reaches";

const SOURCES: Record<Source_Kind, string> = {
  [Source_Kind.UNSPECIFIED]: "a source",
  [Source_Kind.SUPERVISOR]: "supervisor",
  [Source_Kind.METRICS]: "metrics",
  [Source_Kind.ALERTS]: "alerts",
  [Source_Kind.REGISTRY]: "registry",
  [Source_Kind.TRACES]: "traces",
  [Source_Kind.MAIL]: "mail",
  [Source_Kind.DEAD_LETTERS]: "dead letters",
};

export const sourceName = (kind: Source_Kind): string => SOURCES[kind] ?? "a source";

/** The figures above the picture. */
export interface Headline {
  calls: number | undefined;
  errors: number | undefined;
  p99: number | undefined;
  ready: number;
  processes: number;
  firing: number;
  deadLetters: number | undefined;
  waiting: number | undefined;
}

export function headline(mesh: Mesh): Headline {
  const gateway = mesh.services.find((service) => service.kind === Kind.GATEWAY);
  const inner = mesh.edges.filter((edge) => edge.kind === Edge_Kind.CALLS && edge.source === id(gateway?.name ?? ""));
  const slowest = inner.map((edge) => edge.p99Seconds).filter((seconds) => seconds !== undefined);
  return {
    calls: gateway?.rate,
    errors: gateway && errorShare(gateway),
    p99: slowest.length ? Math.max(...slowest) * 1000 : undefined,
    ready: mesh.processes.filter((process) => process.state === Process_State.READY).length,
    processes: mesh.processes.length,
    firing: mesh.alerts.filter((alert) => alert.state === Alert_State.FIRING).length,
    deadLetters: total(mesh.queues.map((queue) => queue.deadLetters)),
    waiting: total(mesh.queues.map((queue) => queue.waitingEvents)),
  };
}

/** The sum of what was measured; undefined where nothing was. */
function total(figures: readonly (bigint | undefined)[]): number | undefined {
  const measured = figures.filter((figure) => figure !== undefined);
  return measured.length ? Number(measured.reduce((sum, figure) => sum + figure, 0n)) : undefined;
}

/** How an alert that fires looks: one for which somebody is called is as bad as it gets. */
export function grave(severity: string): Condition {
  return severity === "page" || severity === "critical" ? "bad" : severity === "info" ? "idle" : "warn";
}

/** The processes of a service; in a lane its name is `orders@next`, and its processes say the lane. */
export function processesOf(mesh: Mesh, service: string): Process[] {
  const [name, lane = ""] = service.split("@", 2);
  return mesh.processes.filter(
    (process) => process.service === service || (process.service === name && process.lane === lane),
  );
}

/** Something that somebody should look at now. */
export interface Trouble {
  condition: Condition;
  title: string;
  detail: string;
  href: string;
  since: number;
}

/** What is wrong, the gravest first. */
export function troubles(mesh: Mesh): Trouble[] {
  const found: Trouble[] = [];
  for (const source of mesh.sources) {
    if (source.state !== Source_State.UNAVAILABLE) continue;
    const title = `No news from: ${sourceName(source.kind)}`;
    found.push({
      condition: "warn",
      title,
      detail: source.reason,
      href: href("health"),
      since: moment(source.answerTime),
    });
  }
  for (const alert of mesh.alerts) {
    if (alert.state !== Alert_State.FIRING) continue;
    const condition = grave(alert.severity);
    found.push({
      condition,
      title: alert.alert,
      detail: alert.summary,
      href: href("alerts"),
      since: moment(alert.startTime),
    });
  }
  for (const service of mesh.services) {
    const share = errorShare(service);
    const condition = errorCondition(share);
    if (condition !== "warn" && condition !== "bad") continue;
    const name = id(service.name);
    const title = `${percent(share)} of ${name} fails`;
    const address = href("traces", "", { service: name, errors: "1" });
    found.push({ condition, title, detail: "by a fault of the mesh: see its failed traces", href: address, since: 0 });
  }
  for (const process of mesh.processes) {
    const { word, condition } = processState(process);
    if (condition !== "warn" && condition !== "bad") continue;
    const detail = process.reason || `of ${process.service}`;
    found.push({
      condition,
      title: `${id(process.name)} is ${word}`,
      detail,
      href: href("services", process.service),
      since: moment(process.stateTime),
    });
  }
  for (const queue of mesh.queues) {
    if (!queue.deadLetters) continue;
    const title = `${queue.deadLetters} dead in ${id(queue.name)}`;
    found.push({
      condition: "warn",
      title,
      detail: "events that workers have put aside",
      href: href("queues", id(queue.name)),
      since: 0,
    });
  }
  const rank = (trouble: Trouble) => (trouble.condition === "bad" ? 0 : 1);
  return found.sort((one, other) => rank(one) - rank(other) || other.since - one.since);
}

/** One of seven colours, the same for a name wherever it stands (FNV-1a). */
export function hue(name: string): string {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193) >>> 0;
  return `hue-${hash % 7}`;
}
