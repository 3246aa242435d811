/** How figures read: short, with their unit, and the same everywhere on the page. */

const NONE = "–";

/** Calls a second: `0`, `0.4`, `12`, `1.2 k`. */
export function rate(perSecond: number | undefined): string {
  if (perSecond === undefined || !Number.isFinite(perSecond)) return NONE;
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "<0.1";
  if (perSecond < 9.95) return perSecond.toFixed(1);
  if (perSecond < 999.5) return perSecond.toFixed(0);
  return `${(perSecond / 1000).toFixed(perSecond < 9950 ? 1 : 0)} k`;
}

/** A share of one in percent; what is not nothing never reads as 0 %, what is not all never as 100 %. */
export function percent(share: number | undefined): string {
  if (share === undefined || !Number.isFinite(share)) return NONE;
  if (share === 0) return "0 %";
  if (share < 0.001) return "<0.1 %";
  if (share < 0.1) return `${(share * 100).toFixed(1)} %`;
  if (share < 1 && share > 0.995) return ">99 %";
  return `${(share * 100).toFixed(0)} %`;
}

/** A length of time from milliseconds: `80 µs`, `1.2 ms`, `340 ms`, `2.40 s`, `3 min 5 s`, `4 h 2 min`, `3 d 4 h`. */
export function length(milliseconds: number | undefined): string {
  if (milliseconds === undefined || !Number.isFinite(milliseconds)) return NONE;
  if (milliseconds < 0) return NONE;
  if (milliseconds === 0) return "0 ms";
  if (milliseconds < 0.9995) return `${(milliseconds * 1000).toFixed(0)} µs`;
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${milliseconds.toFixed(0)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 59.95) return seconds < 9.995 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

function two(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** How long ago a moment was, both in milliseconds of the same clock: `now`, `12 s`, `3 min`, `2 h`, `5 d`. */
export function ago(moment: number | undefined, now: number): string {
  if (moment === undefined || !Number.isFinite(moment) || moment <= 0) return NONE;
  const seconds = Math.max(0, Math.floor((now - moment) / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** A size in bytes: `812 B`, `4.2 KiB`, `1.5 GiB`. */
export function bytes(size: number | bigint | undefined): string {
  if (size === undefined) return NONE;
  let rest = Number(size);
  if (!Number.isFinite(rest) || rest < 0) return NONE;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (rest < 1023.5 || unit === "TiB")
      return `${unit === "B" || rest >= 99.5 ? rest.toFixed(0) : rest.toFixed(1)} ${unit}`;
    rest /= 1024;
  }
  return NONE;
}

/** A whole number with thin spaces between thousands. */
export function count(value: number | bigint | undefined): string {
  if (value === undefined) return NONE;
  return value.toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** A moment of the day in the reader's zone, to the millisecond: `14:03:09.120`. */
export function clock(moment: number | undefined): string {
  if (moment === undefined || !Number.isFinite(moment) || moment <= 0) return NONE;
  const at = new Date(moment);
  const pad = (value: number, width = 2) => value.toString().padStart(width, "0");
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
}

/** `one`, `many`: "1 instance", "3 instances". */
export function plural(value: number, noun: string, many = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : many}`;
}
