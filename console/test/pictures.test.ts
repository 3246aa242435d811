import { expect, test } from "vitest";
import { BOX, layout, line } from "../src/model/graph";
import { KEPT, remember, sparkline } from "../src/model/history";
import { type Timed, ticks, waterfall } from "../src/model/waterfall";

const span = (id: string, parent: string, start: number, duration: number): Timed => ({ id, parent, start, duration });
const shape = (spans: Timed[]) => waterfall(spans).rows.map((row) => `${"  ".repeat(row.depth)}${row.span.id}`);

test("children stand below their parents, siblings by time, in whatever order they came", () => {
  const spans = [
    span("d", "b", 6, 1),
    span("c", "a", 5, 4),
    span("b", "a", 1, 3),
    span("a", "", 0, 10),
    span("e", "c", 6, 1),
  ];

  expect(shape(spans)).toEqual(["a", "  b", "    d", "  c", "    e"]);
  expect(shape([...spans].reverse())).toEqual(shape(spans));
});

test("a span whose parent was not kept is a root and says so", () => {
  const [row] = waterfall([span("b", "lost", 3, 1)]).rows;

  expect([row?.depth, row?.orphan]).toEqual([0, true]);
});

test("parents that go in a circle lose no span and end", () => {
  expect(
    shape([span("a", "b", 0, 1), span("b", "a", 0, 1), span("c", "c", 0, 1)])
      .map((id) => id.trim())
      .sort(),
  ).toEqual(["a", "b", "c"]);
});

test("bars lie within the trace, and none is too narrow to be seen", () => {
  const spans = [span("a", "", 0, 100), span("b", "a", 99.99, 0.001), span("c", "a", -5, 10), span("d", "", 100, 0)];

  for (const row of waterfall(spans).rows) {
    expect(row.left).toBeGreaterThanOrEqual(0);
    expect(row.left + row.width).toBeLessThanOrEqual(100.0001);
    expect(row.width).toBeGreaterThan(0.2);
  }
});

test("what a span did itself is what no child covers, overlaps counted once", () => {
  const spans = [span("a", "", 0, 10), span("b", "a", 1, 4), span("c", "a", 3, 4), span("late", "a", 9, 5)];

  expect(waterfall(spans).rows[0]?.own).toBe(3);
});

test("ten thousand spans in one line are laid out without a stack overflow", () => {
  const chain = Array.from({ length: 10_000 }, (_, at) => span(`${at}`, at ? `${at - 1}` : "", at, 1));

  expect(waterfall(chain).rows.at(-1)?.depth).toBe(9999);
});

test("marks of the axis are round and within the trace", () => {
  expect(ticks(42)).toEqual([0, 20, 40]);
  expect(ticks(0)).toEqual([0]);
  expect(ticks(1000).at(-1)).toBe(1000);
});

const MESH = {
  nodes: [
    { id: "gateway", tier: 1 },
    ...["a", "b", "c", "d"].map((id) => ({ id, tier: 2 })),
    ...["w", "x", "y", "z"].map((id) => ({ id, tier: 3 })),
  ],
  edges: [
    ["gateway", "a"],
    ["a", "z"],
    ["b", "y"],
    ["c", "x"],
    ["d", "w"],
  ].map(([source = "", target = ""]) => ({ source, target })),
};

test("no two parts stand on each other, and all within the picture", () => {
  const { places, width, height } = layout(MESH.nodes, MESH.edges);
  const all = [...places.values()];

  expect(all.length).toBe(MESH.nodes.length);
  for (const [at, place] of all.entries()) {
    expect(place.x >= 0 && place.x + BOX.width <= width && place.y >= 0 && place.y + BOX.height <= height).toBe(true);
    for (const other of all.slice(at + 1)) {
      expect(Math.abs(place.x - other.x) >= BOX.width || Math.abs(place.y - other.y) >= BOX.height).toBe(true);
    }
  }
});

test("parts stand so that their ways do not cross where they need not", () => {
  const { places } = layout(MESH.nodes, MESH.edges);
  const y = (id: string) => places.get(id)?.y ?? 0;
  const pairs = MESH.edges.slice(1);
  const crossings = pairs.flatMap((one, at) =>
    pairs.slice(at + 1).filter((other) => (y(one.source) - y(other.source)) * (y(one.target) - y(other.target)) < 0),
  );

  expect(crossings).toEqual([]);
});

test("the picture does not jump: the same parts in another order stand where they stood", () => {
  const one = layout(MESH.nodes, MESH.edges).places;
  const other = layout([...MESH.nodes].reverse(), [...MESH.edges].reverse()).places;

  expect(Object.fromEntries(other)).toEqual(Object.fromEntries(one));
});

test("a word on a way stands between its ends", () => {
  const { middle } = line({ x: 0, y: 0 }, { x: 300, y: 200 });

  expect(middle.x).toBeGreaterThan(BOX.width);
  expect(middle.x).toBeLessThan(300);
  expect(middle.y).toBeGreaterThan(BOX.height / 2);
  expect(middle.y).toBeLessThan(200 + BOX.height / 2);
});

test("history keeps the last minutes, forgets who left, and leaves gaps where nothing was measured", () => {
  let past = remember(new Map(), [{ name: "gone", rate: 1 }]);
  for (let at = 0; at < KEPT + 5; at++) past = remember(past, [{ name: "orders", rate: at === KEPT ? undefined : at }]);

  expect([...past.keys()]).toEqual(["orders"]);
  expect(past.get("orders")?.length).toBe(KEPT);
  expect(sparkline(past.get("orders") ?? [], 100, 20).match(/M/g)?.length).toBe(2);
  expect(sparkline([], 100, 20)).toBe("");
});
