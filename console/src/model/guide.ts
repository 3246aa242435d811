/** What the documents that this mesh serves have a place for: of errors and of methods. */

export interface Guide {
  /** By `NOT_FOUND` and `NOT_FOUND/PRODUCT_NOT_FOUND`; below `/docs/`. */
  errors: ReadonlyMap<string, string>;
  /** By `weft.orders.v1.OrderService/PlaceOrder`. */
  methods: ReadonlyMap<string, string>;
}

/** Where the documents begin. */
export const DOCS = "/docs/";

/** From the `links.json` of the site; nothing where it is something else. */
export function read(said: unknown): Guide | undefined {
  if (said === null || typeof said !== "object" || !("errors" in said) || !("methods" in said)) return undefined;
  return { errors: places(said.errors), methods: places(said.methods) };
}

/** A place is a page of the site with its anchor: it can lead nowhere else. */
function places(said: unknown): ReadonlyMap<string, string> {
  const entries = Object.entries(said ?? {}).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string" && /^\w[\w./#-]*$/.test(entry[1]),
  );
  return new Map(entries);
}

/** Where a reason is explained, or else its code; empty where neither is. */
export function ofError(guide: Guide | undefined, code: string, reason: string): string {
  // Nobody answered, so nobody would answer for the documents either.
  if (code === "UNAVAILABLE" && !reason) return "";
  const place = (reason && guide?.errors.get(`${code}/${reason}`)) || guide?.errors.get(code);
  return place ? DOCS + place : "";
}

/** Where a method stands in the reference; empty where it does not. */
export function ofMethod(guide: Guide | undefined, method: string): string {
  const place = guide?.methods.get(method);
  return place ? DOCS + place : "";
}
