import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb";
import { Alert_State } from "../src/gen/weft/operations/v1/alerts_pb";
import {
  Edge_Kind,
  Kind,
  MeshSchema,
  Process_State,
  ServiceSchema,
  Source_Kind,
  Source_State,
} from "../src/gen/weft/operations/v1/mesh_pb";
import { codeName, fromError, fromStatus, meaning } from "../src/model/failure";
import { errorShare, headline, hue, picture, processesOf, serviceCondition, troubles } from "../src/model/mesh";

type Init = MessageInitShape<typeof MeshSchema>;
const SERVICES: NonNullable<Init["services"]> = [
  { name: "services/clients", kind: Kind.CLIENTS },
  { name: "services/gateway", kind: Kind.GATEWAY, processes: 2, readyProcesses: 2, rate: 100, errorRate: 1 },
  { name: "services/orders", kind: Kind.SERVICE, processes: 2, readyProcesses: 2, rate: 50, errorRate: 0 },
  { name: "services/catalog", kind: Kind.SERVICE, processes: 2, readyProcesses: 2 },
  { name: "services/etcd", kind: Kind.ETCD, processes: 3, readyProcesses: 3 },
  { name: "services/prometheus", kind: Kind.MONITOR, processes: 1, readyProcesses: 1 },
];
const seen = (init: Init = {}) =>
  create(MeshSchema, {
    services: SERVICES,
    edges: [
      { source: "clients", target: "gateway", kind: Edge_Kind.CALLS, rate: 100 },
      { source: "gateway", target: "orders", kind: Edge_Kind.CALLS, rate: 50, p99Seconds: 0.2 },
      { source: "orders", target: "catalog", kind: Edge_Kind.CALLS, rate: 50, p99Seconds: 0.9 },
      { source: "orders", target: "etcd", kind: Edge_Kind.REGISTRY },
      { source: "orders", target: "nobody", kind: Edge_Kind.CALLS },
    ],
    ...init,
  });
const service = (init: MessageInitShape<typeof ServiceSchema>) =>
  create(ServiceSchema, { name: "services/x", kind: Kind.SERVICE, processes: 2, readyProcesses: 2, ...init });

test("a service is as bad as the worst of what is known of it, and unmeasured is not bad", () => {
  expect(serviceCondition(service({}))).toBe("good");
  expect(serviceCondition(service({ readyProcesses: 1 }))).toBe("warn");
  expect(serviceCondition(service({ readyProcesses: 2, size: 3 }))).toBe("warn");
  expect(serviceCondition(service({ readyProcesses: 0 }))).toBe("bad");
  expect(serviceCondition(service({ rate: 100, errorRate: 0.5 }))).toBe("warn");
  expect(serviceCondition(service({ rate: 100, errorRate: 5 }))).toBe("bad");
  expect(serviceCondition(service({ processes: 0, readyProcesses: 0 }))).toBe("idle");
});

test("failures without calls are all failures, and unmeasured ones are no figure", () => {
  expect([
    errorShare({ rate: 0, errorRate: 0 }),
    errorShare({ rate: 0, errorRate: 1 }),
    errorShare({ rate: 3 }),
  ]).toEqual([0, 1, undefined]);
});

test("the picture shows calls, and registry and control plane only when asked; ways to nowhere are left out", () => {
  const calm = picture(seen(), false);
  const whole = picture(seen(), true);

  expect(calm.nodes.map((node) => node.id).sort()).toEqual(["catalog", "clients", "gateway", "orders"]);
  expect(calm.edges.length).toBe(3);
  expect(whole.nodes.map((node) => node.id)).toContain("etcd");
  expect(whole.nodes.map((node) => node.id)).not.toContain("prometheus");
});

test("a service that others call stands behind them", () => {
  const tier = new Map(picture(seen(), false).nodes.map((node) => [node.id, node.tier]));

  expect((tier.get("catalog") ?? 0) > (tier.get("orders") ?? 0)).toBe(true);
});

test("the headline counts what the gateway sees, and says nothing where nothing was measured", () => {
  const figures = headline(
    seen({
      processes: [{ state: Process_State.READY }, { state: Process_State.DOWN }],
      queues: [
        { name: "queues/email", deadLetters: 2n },
        { name: "queues/audit", deadLetters: 1n, waitingEvents: 4n },
      ],
      alerts: [{ state: Alert_State.FIRING }, { state: Alert_State.PENDING }],
    }),
  );

  expect(figures).toEqual({
    calls: 100,
    errors: 0.01,
    p99: 200,
    ready: 1,
    processes: 2,
    firing: 1,
    deadLetters: 3,
    waiting: 4,
  });
  expect(headline(create(MeshSchema)).deadLetters).toBeUndefined();
});

test("what is wrong is told gravest first: dead processes, alerts, missing news, dead letters", () => {
  const found = troubles(
    seen({
      sources: [{ kind: Source_Kind.METRICS, state: Source_State.UNAVAILABLE, reason: "refused" }],
      alerts: [
        { alert: "DeadLetters", severity: "ticket", state: Alert_State.FIRING },
        { alert: "ServiceDown", severity: "page", state: Alert_State.FIRING },
        { alert: "Later", severity: "page", state: Alert_State.PENDING },
      ],
      processes: [
        { name: "processes/orders-1", service: "orders", state: Process_State.DOWN, reason: "killed by signal 9" },
        { name: "processes/orders-2", service: "orders", state: Process_State.READY },
        { name: "processes/orders-3", service: "orders", state: Process_State.STARTING },
      ],
      queues: [{ name: "queues/email", deadLetters: 2n }],
    }),
  );

  expect(
    found
      .filter((trouble) => trouble.condition === "bad")
      .map((trouble) => trouble.title)
      .sort(),
  ).toEqual(["ServiceDown", "orders-1 is down"]);
  expect(
    found
      .slice(2)
      .map((trouble) => trouble.title)
      .sort(),
  ).toEqual([
    "1.0 % of gateway fails",
    "2 dead in email",
    "DeadLetters",
    "No news from: metrics",
    "orders-3 is starting",
  ]);
  expect(troubles(create(MeshSchema))).toEqual([]);
});

test("a service of a lane has the processes of its lane, the stable one the others", () => {
  const mesh = seen({
    processes: [
      { name: "processes/orders-1", service: "orders" },
      { name: "processes/orders-next-1", service: "orders", lane: "next" },
      { name: "processes/orders-next-2", service: "orders@next", lane: "next" },
    ],
  });

  expect(processesOf(mesh, "orders@next").map((process) => process.name)).toEqual([
    "processes/orders-next-1",
    "processes/orders-next-2",
  ]);
});

test("a service keeps its colour", () => {
  expect(hue("orders")).toBe(hue("orders"));
  expect(new Set(["gateway", "orders", "catalog", "identity", "analytics"].map(hue)).size).toBeGreaterThan(2);
});

const details = [
  { desc: ErrorInfoSchema, value: { reason: "OUT_OF_STOCK", domain: "weft.example", metadata: { product: "mug" } } },
  { desc: BadRequestSchema, value: { fieldViolations: [{ field: "items[0]", description: "too many" }] } },
  { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n, nanos: 500_000_000 } } },
];

test("an error says the same over gRPC-web and as JSON", () => {
  const headers = new Headers({ "x-trace-id": "0af7651916cd43dd8448eb211c80319c" });
  const web = fromError(new ConnectError("too little is left", Code.FailedPrecondition, headers, details));
  const body = {
    code: 9,
    message: "too little is left",
    details: [
      {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        reason: "OUT_OF_STOCK",
        domain: "weft.example",
        metadata: { product: "mug" },
      },
      {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        fieldViolations: [{ field: "items[0]", description: "too many" }],
      },
      { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: "1.500s" },
    ],
  };

  expect(web).toEqual(fromStatus(400, body, headers));
  expect([web.name, web.reason, web.retryAfterMs, web.trace]).toEqual([
    "FAILED_PRECONDITION",
    "OUT_OF_STOCK",
    1500,
    "0af7651916cd43dd8448eb211c80319c",
  ]);
  expect(web.violations).toEqual([{ subject: "items[0]", description: "too many" }]);
});

test("an answer that is no status at all still gets a code and never throws", () => {
  for (const body of [null, "<html>", [], { code: "9", details: "x" }, { details: [null, 3] }]) {
    expect(fromStatus(503, body, new Headers()).name).toBe("UNAVAILABLE");
  }
});

test("a mesh that nobody reaches is unavailable, not unknown", () => {
  expect(fromError(new TypeError("Failed to fetch")).name).toBe("UNAVAILABLE");
});

test("every status has a name and is explained", () => {
  const codes = Object.values(Code).filter((code): code is Code => typeof code === "number");

  expect(codes.length).toBe(16);
  for (const code of codes) expect(meaning(code).next).toMatch(/\.$/);
  expect([codeName(Code.Canceled), codeName(Code.DataLoss)]).toEqual(["CANCELLED", "DATA_LOSS"]);
});
