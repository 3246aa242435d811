/** Questions before something is done to the mesh, and what became of it. */

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { fromError } from "../model/failure";
import { ofError } from "../model/guide";
import { guide } from "../wire/guide";
import { InDocs } from "./states";

interface Question {
  title: string;
  body: ComponentChildren;
  /** What the button says: the deed itself, never "OK". */
  deed: string;
  grave: boolean;
  act: () => Promise<string>;
}

interface Outcome {
  id: number;
  good: boolean;
  text: string;
  /** The status and the reason of what failed; empty where nothing did. */
  code: string;
  reason: string;
}

const question = signal<Question | null>(null);
const outcomes = signal<Outcome[]>([]);
let numbers = 0;

/** How long good news stay; bad ones stay until they are taken away. */
const GOOD_MS = 8000;

/** Asks, does it where the answer is yes, and tells what `act` answers with, or why it failed. */
export function ask(next: Question): void {
  question.value = next;
}

export function tell(good: boolean, text: string, failed = { name: "", reason: "" }): void {
  const id = ++numbers;
  outcomes.value = [...outcomes.value.slice(-3), { id, good, text, code: failed.name, reason: failed.reason }];
  if (good) setTimeout(() => drop(id), GOOD_MS);
}

function drop(id: number): void {
  outcomes.value = outcomes.value.filter((outcome) => outcome.id !== id);
}

async function perform(asked: Question): Promise<void> {
  question.value = null;
  try {
    tell(true, await asked.act());
  } catch (error) {
    const failure = fromError(error);
    const said = `${asked.deed}: ${failure.name}${failure.reason && ` (${failure.reason})`}. ${failure.message}`;
    tell(false, said, failure);
  }
}

export function Asking() {
  const asked = question.value;
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    if (asked && !dialog.current?.open) dialog.current?.showModal();
  }, [asked]);
  return (
    <>
      {asked && (
        <dialog
          ref={dialog}
          aria-labelledby="asked"
          onClose={() => {
            question.value = null;
          }}
        >
          <form
            method="dialog"
            onSubmit={(event) => {
              event.preventDefault();
              perform(asked);
            }}
          >
            <h2 id="asked">{asked.title}</h2>
            {asked.body}
            <div class="actions">
              <button type="button" onClick={() => dialog.current?.close()}>
                Cancel
              </button>
              <button type="submit" class={asked.grave ? "danger" : "main"}>
                {asked.deed}
              </button>
            </div>
          </form>
        </dialog>
      )}
      <div class="outcomes" role="status" aria-live="polite">
        {outcomes.value.map((outcome) => (
          <div key={outcome.id} class={`outcome ${outcome.good ? "" : "bad"}`}>
            <p>
              {outcome.text}{" "}
              {outcome.code && (
                <InDocs at={ofError(guide.value, outcome.code, outcome.reason)}>What to do about it</InDocs>
              )}
            </p>
            <button type="button" class="bare" onClick={() => drop(outcome.id)}>
              Dismiss
            </button>
          </div>
        ))}
      </div>
    </>
  );
}
