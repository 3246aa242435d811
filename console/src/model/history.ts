/** What the last minutes were like: the rate of each service, one figure for each message of the mesh. */

/** Figures by service, the latest last; undefined where nothing was measured. */
export type History = ReadonlyMap<string, readonly (number | undefined)[]>;

export const KEPT = 120;

/** The history with one more moment. A service that is gone is forgotten; a new one begins with what is known of it. */
export function remember(past: History, services: readonly { name: string; rate?: number | undefined }[]): History {
  return new Map(services.map(({ name, rate }) => [name, [...(past.get(name) ?? []), rate].slice(-KEPT)]));
}

/** An SVG path through the figures, in a box of the given size; gaps stay gaps. Empty where there is nothing to draw. */
export function sparkline(figures: readonly (number | undefined)[], width: number, height: number): string {
  const most = Math.max(...figures.map((figure) => figure ?? 0), 0);
  const step = width / Math.max(1, KEPT - 1);
  const first = KEPT - figures.length;
  let path = "";
  let pen = false;
  figures.forEach((figure, at) => {
    if (figure === undefined) {
      pen = false;
      return;
    }
    const x = ((first + at) * step).toFixed(1);
    const y = (most > 0 ? height - (figure / most) * height : height).toFixed(1);
    path += `${pen ? "L" : "M"}${x} ${y}`;
    pen = true;
  });
  return path;
}
