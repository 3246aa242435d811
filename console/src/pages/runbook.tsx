/** A runbook: what an alert means and what to do, as the page was built with it. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Block, blocks, type Inline } from "../model/markdown";
import { href } from "../model/route";
import { Empty, Loading } from "../parts/states";

/** Each is a file of its own, fetched when it is read. */
const BOOKS = import.meta.glob<string>("../../../docs/runbooks/*.md", { query: "?raw", import: "default" });

export function RunbookPage({ name }: { name: string }) {
  const [text, setText] = useState<string | null | undefined>();
  useEffect(() => {
    setText(undefined);
    const book = BOOKS[`../../../docs/runbooks/${name}.md`];
    if (!book) setText(null);
    else book().then(setText, () => setText(null));
  }, [name]);
  return (
    <>
      <header>
        <h1>Runbook</h1>
        <a href={href("alerts")}>All alerts</a>
      </header>
      <article class="panel">
        {text === undefined && <Loading what="the runbook" />}
        {text === null && <Empty title={`There is no runbook called ${name}`} />}
        {text && (
          <div class="body prose">
            {blocks(text).map((block, at) => (
              <Written key={at} block={block} />
            ))}
          </div>
        )}
      </article>
    </>
  );
}

function Written({ block }: { block: Block }): ComponentChildren {
  switch (block.kind) {
    case "heading":
      return block.level === 1 ? <h2>{words(block.text)}</h2> : <h3>{words(block.text)}</h3>;
    case "code":
      return <pre class="quote">{block.text}</pre>;
    case "list": {
      const items = block.items.map((item, at) => <li key={at}>{words(item)}</li>);
      return block.ordered ? <ol>{items}</ol> : <ul>{items}</ul>;
    }
    default:
      return <p>{words(block.text)}</p>;
  }
}

function words(text: readonly Inline[]): ComponentChildren {
  return text.map((part, at) => {
    const key = `${at} ${part.text}`;
    if (part.kind === "code") return <code key={key}>{part.text}</code>;
    if (part.kind === "strong") return <strong key={key}>{part.text}</strong>;
    if (part.kind !== "link") return part.text;
    const book = /([A-Za-z]+)\.md$/.exec(part.href)?.[1];
    return book && `../../../docs/runbooks/${book}.md` in BOOKS ? (
      <a key={key} href={href("runbooks", book)}>
        {part.text}
      </a>
    ) : (
      part.text
    );
  });
}
