/** The address of the page as a signal. */

import { signal } from "@preact/signals";
import { href, parse } from "../model/route";

export const route = signal(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

/** Goes to another page. */
export function go(page: string, item = "", query: Record<string, string> = {}): void {
  location.hash = href(page, item, query);
}

/** Says in the address what the page is asked for, without a step in the browser's history. */
export function restate(page: string, item: string, query: Record<string, string>): void {
  history.replaceState(null, "", href(page, item, query));
  route.value = parse(location.hash);
}
