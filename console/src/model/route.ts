/** What the page shows, as it stands behind the `#` of the address: `#/traces?errors=1`, `#/traces/0af7…`. */

export interface Route {
  page: string;
  /** What of the page: an id; empty: all of it. */
  item: string;
  query: Record<string, string>;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?", 2);
  const [page = "", ...item] = path.split("/");
  return {
    page: decode(page) || "overview",
    item: item.map(decode).join("/"),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** The address of a page; what is empty is left out. */
export function href(page: string, item = "", query: Record<string, string> = {}): string {
  const said = Object.entries(query).filter(([, value]) => value !== "");
  const path = item ? `/${item.split("/").map(encodeURIComponent).join("/")}` : "";
  return `#/${page}${path}${said.length ? `?${new URLSearchParams(said)}` : ""}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
