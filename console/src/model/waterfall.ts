/** From the spans of one trace to the rows of a waterfall. */

/** One span as the picture needs it; times in milliseconds of one clock. */
export interface Timed {
  id: string;
  parent: string;
  start: number;
  duration: number;
}

export interface Row<S extends Timed> {
  span: S;
  /** How far to the right it stands: 0 for a root. */
  depth: number;
  /** Where its bar begins and how long it is, in percent of the trace. */
  left: number;
  width: number;
  /** Milliseconds that none of its children account for. */
  own: number;
  children: number;
  /** Its parent is not among the spans: it was sampled away, or is still to come. */
  orphan: boolean;
}

export interface Waterfall<S extends Timed> {
  start: number;
  duration: number;
  rows: Row<S>[];
}

/** The narrowest bar that still can be seen, in percent. */
const NARROWEST = 0.3;

/** Rows in the order of a reading: parents before children, siblings by time. Loops of parents are cut, no span is lost. */
export function waterfall<S extends Timed>(spans: readonly S[]): Waterfall<S> {
  if (spans.length === 0) return { start: 0, duration: 0, rows: [] };
  const known = new Set(spans.map((span) => span.id));
  const children = new Map<string, S[]>();
  const roots: S[] = [];
  for (const span of spans) {
    if (span.parent !== "" && span.parent !== span.id && known.has(span.parent)) {
      const siblings = children.get(span.parent);
      if (siblings) siblings.push(span);
      else children.set(span.parent, [span]);
    } else roots.push(span);
  }
  const start = spans.reduce((least, span) => Math.min(least, span.start), Number.POSITIVE_INFINITY);
  const end = spans.reduce((most, span) => Math.max(most, span.start + span.duration), start);
  const whole = Math.max(end - start, 1e-6);
  const rows: Row<S>[] = [];
  const seen = new Set<S>();
  const walk = (from: readonly S[]) => {
    const stack = inTime(from).map((span) => ({ span, depth: 0 }));
    for (let next = stack.pop(); next; next = stack.pop()) {
      const { span, depth } = next;
      if (seen.has(span)) continue;
      seen.add(span);
      const below = children.get(span.id) ?? [];
      const left = ((span.start - start) / whole) * 100;
      const width = Math.max(NARROWEST, (span.duration / whole) * 100);
      rows.push({
        span,
        depth,
        left: Math.min(left, 100 - NARROWEST),
        width: Math.min(width, 100 - Math.min(left, 100 - NARROWEST)),
        own: Math.max(0, span.duration - covered(span, below)),
        children: below.length,
        orphan: span.parent !== "" && !known.has(span.parent),
      });
      for (const child of inTime(below)) stack.push({ span: child, depth: depth + 1 });
    }
  };
  walk(roots);
  for (const span of spans) if (!seen.has(span)) walk([span]);
  return { start, duration: end - start, rows };
}

/** Latest first, because they are taken from the end. */
function inTime<S extends Timed>(spans: readonly S[]): S[] {
  return [...spans].sort((one, other) => other.start - one.start || other.duration - one.duration);
}

/** How much of the span's time at least one child was under way. */
function covered(span: Timed, below: readonly Timed[]): number {
  const end = span.start + span.duration;
  let total = 0;
  let upTo = span.start;
  for (const child of [...below].sort((one, other) => one.start - other.start)) {
    const from = Math.max(child.start, upTo);
    const to = Math.min(child.start + child.duration, end);
    if (to > from) {
      total += to - from;
      upTo = to;
    }
  }
  return total;
}

/** Four or five marks of the time axis, in milliseconds from the start, at round steps. */
export function ticks(duration: number): number[] {
  if (!(duration > 0)) return [0];
  const rough = duration / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) ?? 10 * power;
  const marks: number[] = [];
  for (let at = 0; at <= duration + step * 1e-9; at += step) marks.push(at);
  return marks;
}
