/** The documents beside the page: asked for until they are there, since they are built while a mesh starts. */

import { signal } from "@preact/signals";
import { DOCS, type Guide, read } from "../model/guide";

/** None, as long as no documents are served: then nothing leads to them. */
export const guide = signal<Guide | undefined>(undefined);

let asked = false;

/** Ask once more, unless they have been found or are being asked for. Never throws: the page is whole without them. */
export async function look(): Promise<void> {
  if (guide.value || asked) return;
  asked = true;
  try {
    const answer = await fetch(`${DOCS}links.json`);
    if (answer.ok) guide.value = read(await answer.json());
  } catch {
    // Nobody answers, or with no JSON: there are no documents for now.
  }
  asked = false;
}
