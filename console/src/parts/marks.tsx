/** Small signs that stand beside words, never instead of them. */

import type { ComponentChildren } from "preact";
import { sparkline } from "../model/history";
import type { Condition } from "../model/mesh";

/** Shapes differ too, for whoever does not tell the colours apart. */
const SHAPES: Record<Condition, ComponentChildren> = {
  good: <circle cx="5" cy="5" r="4" fill="currentColor" />,
  warn: <path d="M5 .8 9.6 9.2H.4z" fill="currentColor" />,
  bad: <path d="M3 .5h4L9.5 3v4L7 9.5H3L.5 7V3z" fill="currentColor" />,
  idle: <circle cx="5" cy="5" r="3.4" fill="none" stroke="currentColor" stroke-width="1.4" />,
};

export function Mark({
  condition,
  children,
  pulse,
}: {
  condition: Condition;
  children?: ComponentChildren;
  pulse?: boolean;
}) {
  return (
    <span class={`mark ${condition}`}>
      <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true" class={pulse ? "pulse" : ""}>
        {SHAPES[condition]}
      </svg>
      {children}
    </span>
  );
}

export function Meter({ share, warnAt = 0.7, badAt = 0.9 }: { share: number; warnAt?: number; badAt?: number }) {
  const held = Math.max(0, Math.min(1, share));
  const look = held >= badAt ? "bad" : held >= warnAt ? "warn" : "";
  return (
    <span class={`meter ${look}`} aria-hidden="true">
      <i style={{ width: `${held * 100}%` }} />
    </span>
  );
}

export function Spark({
  figures,
  width = 96,
  height = 22,
}: {
  figures: readonly (number | undefined)[];
  width?: number;
  height?: number;
}) {
  const path = sparkline(figures, width, height);
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {path && <path d={path} />}
    </svg>
  );
}

/** The loom's mark: threads that cross. */
export function Weave({ size = 22 }: { size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="2.4"
      stroke-linecap="round"
      aria-hidden="true"
    >
      <path d="M3 7h5M12 7h9M3 17h9M16 17h5M7 3v9M7 16v5M17 3v5M17 12v9" />
    </svg>
  );
}

const ICONS: Record<string, string> = {
  overview: "M3 4h4v4H3zM11 2h4v4h-4zM11 12h4v4h-4zM7 6l4-2M7 7l4 6",
  services: "M3 3h12v4H3zM3 11h12v4H3zM6 5h.01M6 13h.01",
  traces: "M2 4h8M5 9h9M8 14h8",
  queues: "M2 5h9M2 9h9M2 13h9M14 4l2 2-2 2",
  contracts: "M4 2h7l3 3v11H4zM7 8h4M7 11h4",
  alerts: "M9 2l7 13H2zM9 7v4M9 13h.01",
  mail: "M2 4h14v10H2zM2 5l7 5 7-5",
  docs: "M9 4C7 2.6 4.5 2.4 2 3v11c2.5-.6 5-.4 7 1 2-1.4 4.5-1.6 7-1V3c-2.5-.6-5-.4-7 1zM9 4v11",
  health: "M2 9h3l2-5 3 9 2-4h4",
};

export function Icon({ name }: { name: string }) {
  return (
    <svg
      width="18"
      height="18"
      viewBox="0 0 18 18"
      fill="none"
      stroke="currentColor"
      stroke-width="1.4"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={ICONS[name] ?? ""} />
    </svg>
  );
}
