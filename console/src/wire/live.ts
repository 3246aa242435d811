/** The mesh as it is, told by WatchMesh every second; asked for again, after a while ever more slowly, while nobody tells. */

import { Code } from "@connectrpc/connect";
import { computed, signal } from "@preact/signals";
import type { Mesh } from "../gen/weft/operations/v1/mesh_pb";
import { revival } from "../model/backoff";
import { type Failure, fromError } from "../model/failure";
import { type History, remember } from "../model/history";
import { meshes } from "./clients";
import { another, end, session } from "./session";

/** How long after the last message what is shown counts as old; the mesh tells every second. */
export const OLD_MS = 4000;
/** A stream that says nothing for so long is dead, even where no connection has broken. */
const SILENT_MS = 6000;

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; failure: Failure; failures: number; next: number }
  | { state: "denied"; failure: Failure };

export const mesh = signal<Mesh | undefined>(undefined);
export const heard = signal(0);
export const link = signal<Link>({ state: "connecting" });
export const history = signal<History>(new Map());
/** How often the mesh has come back: what a page asked meanwhile is asked again. */
export const revivals = signal(0);
/** This machine's clock, twice a second. */
export const now = signal(Date.now());

export const stale = computed(() => heard.value > 0 && now.value - heard.value > OLD_MS);
/** How far the mesh's clock is ahead of this machine's, in milliseconds. */
export const ahead = computed(() => {
  const seen = mesh.value?.observeTime;
  return seen ? Number(seen.seconds) * 1000 + seen.nanos / 1e6 - heard.peek() : 0;
});

let wake: () => void = () => {};

/** Asks again at once instead of at the end of the pause. */
export function again(): void {
  wake();
}

/** Follows the mesh until `ended`. */
export async function follow(ended: AbortSignal): Promise<void> {
  const ticking = setInterval(() => {
    now.value = Date.now();
  }, 500);
  ended.addEventListener("abort", () => clearInterval(ticking));
  addEventListener("online", again, { signal: ended });
  let refused = false;
  for (let failures = 0; !ended.aborted; ) {
    const before = heard.value;
    let failure = await listen(ended);
    if (ended.aborted || !session.value) return;
    if (failure.code === Code.Unauthenticated) {
      if (refused && heard.value === before) return end();
      const unheard = await renewed();
      if (ended.aborted || !session.value) return;
      refused = !unheard;
      if (!unheard) continue;
      failure = unheard;
    } else refused = false;
    failures = heard.value > before ? 1 : failures + 1;
    if (failure.code === Code.PermissionDenied || failure.code === Code.Unimplemented) {
      link.value = { state: "denied", failure };
      await rest(15_000, ended);
      continue;
    }
    const wait = revival(failures, Math.random());
    link.value = { state: "lost", failure, failures, next: Date.now() + wait };
    await rest(wait, ended);
  }
}

/** Has the token that was refused renewed; why that could not be asked for, where it could not. */
async function renewed(): Promise<Failure | undefined> {
  try {
    await another();
    return undefined;
  } catch (error) {
    return fromError(error);
  }
}

async function listen(ended: AbortSignal): Promise<Failure> {
  const given = new AbortController();
  const stop = () => given.abort();
  ended.addEventListener("abort", stop);
  let watchdog = setTimeout(stop, SILENT_MS * 2);
  try {
    for await (const { mesh: next } of meshes.watchMesh({ name: "meshes/local" }, { signal: given.signal })) {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENT_MS);
      if (next) take(next);
    }
    return fromError(new TypeError("the stream ended"));
  } catch (error) {
    return given.signal.aborted ? fromError(new TypeError("the mesh has gone silent")) : fromError(error);
  } finally {
    clearTimeout(watchdog);
    ended.removeEventListener("abort", stop);
  }
}

function take(next: Mesh): void {
  heard.value = Date.now();
  now.value = heard.value;
  mesh.value = next;
  history.value = remember(history.value, next.services);
  if (link.value.state === "lost") revivals.value += 1;
  if (link.value.state !== "live") link.value = { state: "live" };
}

function rest(milliseconds: number, ended: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    wake = () => {
      clearTimeout(timer);
      done();
    };
    ended.addEventListener("abort", wake, { once: true });
  });
}

/** Forgets what another user saw. */
export function forget(): void {
  mesh.value = undefined;
  heard.value = 0;
  history.value = new Map();
  link.value = { state: "connecting" };
}
