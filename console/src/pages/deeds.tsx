/** What an operator does to processes and services, each asked for once more, and its outcome told. */

import { signal } from "@preact/signals";
import type { Process, Service } from "../gen/weft/operations/v1/mesh_pb";
import { plural } from "../model/format";
import { id } from "../model/mesh";
import { ask } from "../parts/ask";
import { meshes } from "../wire/clients";

export function askRestart(process: Process): void {
  const name = id(process.name);
  ask({
    title: `Restart ${name}?`,
    body: (
      <p>
        It leaves in an orderly way: others take its calls, what it has in hand is finished, then a new process starts.
      </p>
    ),
    deed: "Restart",
    grave: false,
    act: async () => {
      await meshes.restartProcess({ name: process.name });
      return `${name} is being restarted.`;
    },
  });
}

export function askKill(process: Process): void {
  const name = id(process.name);
  ask({
    title: `Kill ${name}?`,
    body: (
      <p>
        SIGKILL, at once: nothing it has in hand is finished. Callers should not notice, and the supervisor starts it
        again.
      </p>
    ),
    deed: "Kill",
    grave: true,
    act: async () => {
      await meshes.killProcess({ name: process.name });
      return `${name} was killed; the supervisor starts it again.`;
    },
  });
}

export function askRoll(service: Service): void {
  const name = id(service.name);
  ask({
    title: `Roll ${name}?`,
    body: (
      <p>
        Each of its {plural(service.processes, "instance")} is replaced by a new process, one after another. Callers do
        not notice.
      </p>
    ),
    deed: "Roll",
    grave: false,
    act: async () => {
      await meshes.rollService({ name: service.name });
      return `${name} is being rolled.`;
    },
  });
}

type Wish = { how: "size" | "bounds"; size: string; min: string; max: string };

export function askScale(service: Service): void {
  const name = id(service.name);
  const wish = signal<Wish>({
    how: service.bounds ? "bounds" : "size",
    size: String(service.size ?? service.processes),
    min: String(service.bounds?.min ?? 2),
    max: String(service.bounds?.max ?? 4),
  });
  ask({
    title: `How many instances of ${name}?`,
    body: <Sizing wish={wish} />,
    deed: "Scale",
    grave: false,
    act: async () => {
      const { how, size, min, max } = wish.value;
      const sizing =
        how === "size"
          ? { case: "size" as const, value: Number(size) }
          : { case: "bounds" as const, value: { min: Number(min), max: Number(max) } };
      await meshes.scaleService({ name: service.name, sizing });
      return how === "size"
        ? `${name} goes to ${plural(Number(size), "instance")}.`
        : `${name} follows its load, from ${min} to ${max}.`;
    },
  });
}

function Sizing({ wish }: { wish: { value: Wish } }) {
  const { how, size, min, max } = wish.value;
  const set = (part: Partial<Wish>) => {
    wish.value = { ...wish.value, ...part };
  };
  const number = (label: string, key: "size" | "min" | "max", value: string, off: boolean) => (
    <label class="field">
      <span>{label}</span>
      <input
        type="number"
        min="1"
        max="64"
        required={!off}
        disabled={off}
        value={value}
        onInput={(event) => set({ [key]: event.currentTarget.value })}
      />
    </label>
  );
  return (
    <div class="stack">
      <label class="tick">
        <input type="radio" name="how" checked={how === "size"} onChange={() => set({ how: "size" })} /> So many,
        whatever the load
      </label>
      {number("Instances", "size", size, how !== "size")}
      <label class="tick">
        <input type="radio" name="how" checked={how === "bounds"} onChange={() => set({ how: "bounds" })} /> As many as
        the load asks for
      </label>
      <div class="row">
        {number("at least", "min", min, how !== "bounds")}
        {number("at most", "max", max, how !== "bounds")}
      </div>
    </div>
  );
}
