/** The little of Markdown that runbooks are written in: headings, paragraphs, lists, code, links. Anything else is text. */

export type Inline =
  | { kind: "text"; text: string }
  | { kind: "code"; text: string }
  | { kind: "strong"; text: string }
  | { kind: "link"; text: string; href: string };

export type Block =
  | { kind: "heading"; level: number; text: Inline[] }
  | { kind: "paragraph"; text: Inline[] }
  | { kind: "list"; ordered: boolean; items: Inline[][] }
  | { kind: "code"; text: string };

const ITEM = /^(?:(\d+)\.|[-*]) +(.*)$/;

export function blocks(source: string): Block[] {
  const found: Block[] = [];
  const lines = source.replace(/\r/g, "").split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] ?? "";
    const heading = /^(#{1,4}) +(.*)$/.exec(line);
    if (line.trim() === "") at++;
    else if (line.startsWith("```")) {
      const end = lines.findIndex((one, place) => place > at && one.startsWith("```"));
      const last = end < 0 ? lines.length : end;
      found.push({ kind: "code", text: lines.slice(at + 1, last).join("\n") });
      at = last + 1;
    } else if (heading) {
      found.push({ kind: "heading", level: heading[1]?.length ?? 1, text: inline(heading[2] ?? "") });
      at++;
    } else if (ITEM.test(line)) at = list(lines, at, found);
    else {
      const start = at;
      while (at < lines.length && (lines[at] ?? "").trim() !== "" && !(at > start && starts(lines[at] ?? ""))) at++;
      found.push({ kind: "paragraph", text: inline(lines.slice(start, at).join(" ")) });
    }
  }
  return found;
}

const starts = (line: string) => ITEM.test(line) || line.startsWith("```") || /^#{1,4} /.test(line);

/** Items go on over lines that are set in. */
function list(lines: readonly string[], from: number, found: Block[]): number {
  const items: string[] = [];
  const ordered = /^\d/.test(lines[from] ?? "");
  let at = from;
  for (; at < lines.length; at++) {
    const line = lines[at] ?? "";
    const item = ITEM.exec(line);
    if (item) items.push(item[2] ?? "");
    else if (/^\s+\S/.test(line) && items.length) items[items.length - 1] += ` ${line.trim()}`;
    else break;
  }
  found.push({ kind: "list", ordered, items: items.map(inline) });
  return at;
}

export function inline(text: string): Inline[] {
  const parts: Inline[] = [];
  const pattern = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)/g;
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > last) parts.push({ kind: "text", text: text.slice(last, match.index) });
    const [, code, strong, label, target] = match;
    if (code !== undefined) parts.push({ kind: "code", text: code });
    else if (strong !== undefined) parts.push({ kind: "strong", text: strong });
    else parts.push({ kind: "link", text: label ?? "", href: target ?? "" });
    last = match.index + match[0].length;
  }
  if (last < text.length) parts.push({ kind: "text", text: text.slice(last) });
  return parts;
}
