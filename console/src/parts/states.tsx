/** What stands where there is nothing yet, nothing at all, or something went wrong. */

import { Code } from "@connectrpc/connect";
import type { ComponentChildren } from "preact";
import { type Failure, meaning } from "../model/failure";
import { length } from "../model/format";
import { ofError } from "../model/guide";
import { href } from "../model/route";
import { guide } from "../wire/guide";
import type { Query } from "../wire/query";

export function Loading({ what }: { what: string }) {
  return (
    <div class="bones" role="status">
      <span class="unseen">Loading {what}</span>
      {[72, 94, 58, 83].map((width) => (
        <i key={width} class="bone pulse" style={{ width: `${width}%` }} />
      ))}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      {children && <p>{children}</p>}
    </div>
  );
}

/** The way to a place in the documents, in a tab of theirs, so that what was typed here stays; nothing where there is none. */
export function InDocs({ at, children }: { at: string; children: ComponentChildren }) {
  if (!at) return null;
  return (
    <a href={at} target="weft-docs">
      {children}
      <span class="unseen"> (documents, in another tab)</span>
    </a>
  );
}

/** An error with what it means, its details and the way to its trace. */
export function Failed({ failure, told = "", retry }: { failure: Failure; told?: string; retry?: () => void }) {
  const { what, next } = meaning(failure.code);
  return (
    <div class="failure" role="alert">
      <h3>
        {failure.name}
        {failure.reason && ` · ${failure.reason}`}
      </h3>
      <p class="wrap">{failure.message || what}</p>
      {told && <p class="small">The contract says: {told}.</p>}
      {failure.violations.length > 0 && (
        <ul class="small">
          {failure.violations.map((violation) => (
            <li key={violation.subject + violation.description} class="wrap">
              <code>{violation.subject}</code> {violation.description}
            </li>
          ))}
        </ul>
      )}
      {Object.keys(failure.metadata).length > 0 && (
        <dl class="facts">
          {Object.entries(failure.metadata).map(([name, value]) => [
            <dt key={name}>{name}</dt>,
            <dd key={`${name} value`}>{value}</dd>,
          ])}
        </dl>
      )}
      <p class="small quiet">
        {failure.message ? `${what} ` : ""}
        {next}
        {failure.retryAfterMs !== undefined && ` The mesh asks to wait ${length(failure.retryAfterMs)}.`}
      </p>
      <div class="row">
        {retry && (
          <button type="button" onClick={retry}>
            Try again
          </button>
        )}
        {failure.trace && <a href={href("traces", failure.trace)}>Trace of this call</a>}
        <InDocs at={ofError(guide.value, failure.name, failure.reason)}>What to do about it</InDocs>
      </div>
    </div>
  );
}

/** The answer of a query, or what stands in its place. With an older answer at hand, that, and what went wrong above. */
export function Answer<T>({
  of,
  what,
  children,
}: {
  of: Query<T>;
  what: string;
  children: (data: T) => ComponentChildren;
}) {
  if (of.loading) return <Loading what={what} />;
  const denied = of.failure?.code === Code.PermissionDenied;
  return (
    <>
      {of.failure && (
        <div class="body">
          <Failed
            failure={of.failure}
            retry={of.reload}
            told={denied ? "an operator's scope is needed, mesh.read or mesh.operate" : ""}
          />
        </div>
      )}
      {of.data !== undefined && <div class={of.failure ? "old" : ""}>{children(of.data)}</div>}
    </>
  );
}
