/** Where the parts of the mesh stand on the overview: columns by how far a call has come, rows so that few lines cross. */

export interface Node {
  id: string;
  /** Columns from the left; parts of one tier stand below each other. */
  tier: number;
}

export interface Edge {
  source: string;
  target: string;
}

export interface Place {
  x: number;
  y: number;
}

export interface Layout {
  places: Map<string, Place>;
  width: number;
  height: number;
}

export const BOX = { width: 156, height: 60 };
const GAP = { x: 102, y: 24 };
const MARGIN = 14;
const SWEEPS = 4;

export function layout(nodes: readonly Node[], edges: readonly Edge[]): Layout {
  const columns = [...new Set(nodes.map((node) => node.tier))].sort((one, other) => one - other);
  const order = columns.map((tier) =>
    nodes
      .filter((node) => node.tier === tier)
      .map((node) => node.id)
      .sort(),
  );
  const beside = neighbours(nodes, edges);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const ways = sweep % 2 === 0 ? order : [...order].reverse();
    const rank = new Map(order.flatMap((column) => column.map((id, at) => [id, centred(at, column.length)] as const)));
    for (const column of ways) {
      const pull = new Map(column.map((id) => [id, mean(beside.get(id) ?? [], rank) ?? rank.get(id) ?? 0]));
      column.sort((one, other) => (pull.get(one) ?? 0) - (pull.get(other) ?? 0) || one.localeCompare(other));
      column.forEach((id, at) => {
        rank.set(id, centred(at, column.length));
      });
    }
  }
  return place(order);
}

function place(order: readonly string[][]): Layout {
  const tallest = Math.max(0, ...order.map((column) => column.length));
  const height = Math.max(0, tallest * (BOX.height + GAP.y) - GAP.y) + 2 * MARGIN;
  const places = new Map<string, Place>();
  order.forEach((column, at) => {
    const used = column.length * (BOX.height + GAP.y) - GAP.y;
    column.forEach((id, row) => {
      places.set(id, {
        x: MARGIN + at * (BOX.width + GAP.x),
        y: (height - used) / 2 + row * (BOX.height + GAP.y),
      });
    });
  });
  return { places, width: Math.max(0, order.length * (BOX.width + GAP.x) - GAP.x) + 2 * MARGIN, height };
}

function neighbours(nodes: readonly Node[], edges: readonly Edge[]): Map<string, string[]> {
  const beside = new Map<string, string[]>(nodes.map((node) => [node.id, []]));
  for (const { source, target } of edges) {
    beside.get(source)?.push(target);
    beside.get(target)?.push(source);
  }
  return beside;
}

/** Rows of columns of different length are compared by their distance from the middle. */
const centred = (at: number, length: number) => at - (length - 1) / 2;

function mean(ids: readonly string[], rank: ReadonlyMap<string, number>): number | undefined {
  const ranks = ids.map((id) => rank.get(id)).filter((value) => value !== undefined);
  return ranks.length ? ranks.reduce((sum, value) => sum + value, 0) / ranks.length : undefined;
}

/** The line of a call from one box to another, as an SVG path, and where its figures are written. */
export function line(from: Place, to: Place): { path: string; middle: Place } {
  if (from.x === to.x) {
    const [upper, lower] = from.y <= to.y ? [from, to] : [to, from];
    const x = from.x + BOX.width;
    const y1 = upper.y + BOX.height / 2;
    const y2 = lower.y + BOX.height / 2;
    const reach = GAP.x * 0.45;
    const path =
      from.y <= to.y
        ? `M${x} ${y1}C${x + reach} ${y1} ${x + reach} ${y2} ${x} ${y2}`
        : `M${x} ${y2}C${x + reach} ${y2} ${x + reach} ${y1} ${x} ${y1}`;
    return { path, middle: { x: x + reach * 0.8, y: (y1 + y2) / 2 } };
  }
  const forward = from.x < to.x;
  const x1 = forward ? from.x + BOX.width : from.x;
  const x2 = forward ? to.x : to.x + BOX.width;
  const y1 = from.y + BOX.height / 2;
  const y2 = to.y + BOX.height / 2;
  const bend = (x2 - x1) / 2;
  return {
    path: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`,
    // Ways fan out from where they come; before where they go to there is room for a word.
    middle: onCurve({ x: x1, y: y1 }, { x: x2, y: y2 }, x2 - Math.sign(bend) * GAP.x * 0.45),
  };
}

/** The point of such a curve above a given x, by halving. */
function onCurve(from: Place, to: Place, x: number): Place {
  let low = 0;
  let high = 1;
  for (let step = 0; step < 20; step++) {
    const at = (low + high) / 2;
    if ((along(from.x, to.x, at) - x) * Math.sign(to.x - from.x) < 0) low = at;
    else high = at;
  }
  const at = (low + high) / 2;
  return { x, y: from.y + (to.y - from.y) * (3 * at ** 2 - 2 * at ** 3) };
}

/** x of a cubic whose middle points stand half way. */
function along(x1: number, x2: number, at: number): number {
  const half = (x1 + x2) / 2;
  return x1 * (1 - at) ** 3 + 3 * half * (at * (1 - at) ** 2 + at ** 2 * (1 - at)) + x2 * at ** 3;
}
