import { expect, test } from "vitest";
import { FIRST_MS, LONGEST_MS, pause, revival, STEADY } from "../src/model/backoff";
import { ago, bytes, count, length, percent, plural, rate } from "../src/model/format";
import { blocks } from "../src/model/markdown";
import { href, parse } from "../src/model/route";
import { rowsInSight } from "../src/model/window";

test("what was not measured is a dash, and nothing is nought", () => {
  for (const say of [rate, percent, length, bytes, count]) expect(say(undefined)).toBe("–");

  expect([rate(0), percent(0), length(0), bytes(0), count(0)]).toEqual(["0", "0 %", "0 ms", "0 B", "0"]);
});

test("figures keep two or three digits and say their unit", () => {
  expect([0.04, 0.44, 12.3, 999, 1234, 45_600].map(rate)).toEqual(["<0.1", "0.4", "12", "999", "1.2 k", "46 k"]);
  expect([0.08, 1.24, 340.2, 2400, 12_340, 185_000, 14_520_000, 273_600_000].map(length)).toEqual([
    "80 µs",
    "1.2 ms",
    "340 ms",
    "2.40 s",
    "12.3 s",
    "3 min 5 s",
    "4 h 2 min",
    "3 d 4 h",
  ]);
  expect([812, 4300, 1.6e9].map(bytes)).toEqual(["812 B", "4.2 KiB", "1.5 GiB"]);
  expect(count(1234567n)).toBe("1\u202f234\u202f567");
  expect([plural(1, "span"), plural(3, "span"), plural(2, "source does", "sources do")]).toEqual([
    "1 span",
    "3 spans",
    "2 sources do",
  ]);
});

test("rounding never steps from one unit to a worse one", () => {
  expect([length(999.7), length(59_990), length(9.97), bytes(1023.6), rate(9.97)]).toEqual([
    "1.00 s",
    "1 min",
    "10 ms",
    "1.0 KiB",
    "10",
  ]);
});

test("a few failures never read as none, and not quite all never as all", () => {
  expect([0.0004, 0.034, 0.34, 0.999, 1].map(percent)).toEqual(["<0.1 %", "3.4 %", "34 %", ">99 %", "100 %"]);
});

test("a moment is as long ago as both clocks say, and never in the future", () => {
  const now = 1_000_000_000;

  expect([now + 5000, now, now - 12_000, now - 200_000, now - 7_300_000, now - 9e8].map((at) => ago(at, now))).toEqual([
    "now",
    "now",
    "12 s",
    "3 min",
    "2 h",
    "10 d",
  ]);
});

test("pauses double up to a bound, and pages do not ask in step", () => {
  expect([1, 2, 3].map((failures) => pause(failures, 0))).toEqual([FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS]);
  expect(pause(1000, 0)).toBe(LONGEST_MS);
  expect(pause(3, 0.99)).toBeLessThan(pause(3, 0));
  expect(pause(3, 0.99)).toBeGreaterThan(pause(2, 0));
});

test("what was there just now is asked for quickly for a while, and then ever more slowly", () => {
  const pauses = Array.from({ length: STEADY + 1 }, (_, at) => revival(at + 1, 0));
  expect(new Set(pauses)).toEqual(new Set([FIRST_MS]));
  expect(revival(STEADY + 2, 0)).toBe(2 * FIRST_MS);
  expect(revival(1000, 0)).toBe(LONGEST_MS);
});

test("of a thousand rows those in sight are there, and of a short list all", () => {
  const { first, end } = rowsInSight(1000, 34, 34 * 500, 680);

  expect(first).toBeLessThan(500);
  expect(end).toBeGreaterThanOrEqual(520);
  expect(end - first).toBeLessThan(60);
  expect(rowsInSight(3, 34, 0, 680)).toEqual({ first: 0, end: 3 });
  expect(rowsInSight(10, 34, 1e6, 680)).toEqual({ first: 2, end: 10 });
});

test("an address says page, item and question, and comes back as it was", () => {
  const said = parse(href("contracts", "weft.orders.v1.OrderService/PlaceOrder", { a: "1&2", empty: "" }));

  expect(said).toEqual({ page: "contracts", item: "weft.orders.v1.OrderService/PlaceOrder", query: { a: "1&2" } });
  expect(parse("")).toEqual({ page: "overview", item: "", query: {} });
  expect(parse("#/traces/%E0%A4%A")).toEqual({ page: "traces", item: "%E0%A4%A", query: {} });
});

test("a runbook's headings, lists and code are told apart, and nothing in it is markup", () => {
  const found = blocks(
    "# Down\n\nAll `x` and <b>y</b>:\ngo on.\n\n1. One\n   more\n2. [Two](Two.md)\n\n```sh\nweft up\n```\n",
  );

  expect(found.map((block) => block.kind)).toEqual(["heading", "paragraph", "list", "code"]);
  expect(found[1]).toEqual({
    kind: "paragraph",
    text: [
      { kind: "text", text: "All " },
      { kind: "code", text: "x" },
      { kind: "text", text: " and <b>y</b>: go on." },
    ],
  });
  expect(found[2]).toEqual({
    kind: "list",
    ordered: true,
    items: [[{ kind: "text", text: "One more" }], [{ kind: "link", text: "Two", href: "Two.md" }]],
  });
});
