/** How long to wait before asking again: doubled after each failure, with jitter so that pages do not ask in step. */

export const FIRST_MS = 500;
export const LONGEST_MS = 15_000;
/** Attempts that follow each other quickly where somebody has been there: ten seconds of them. */
export const STEADY = 20;

/** Milliseconds until the next attempt after `failures` in a row; `random` in [0, 1) takes up to a fifth away. */
export function pause(failures: number, random: number): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.max(0, Math.min(failures, 30) - 1));
  return Math.round(full * (1 - 0.2 * random));
}

/** The same for what was there just now: a process that was killed is back within seconds, and then seen at once. */
export function revival(failures: number, random: number): number {
  return pause(failures - STEADY, random);
}
