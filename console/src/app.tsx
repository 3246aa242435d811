/** The frame around every page: who is signed in, where one can go, whether what is shown is so. */

import { useEffect, useRef } from "preact/hooks";
import { count, length, plural } from "./model/format";
import { DOCS, ofError } from "./model/guide";
import { headline, id } from "./model/mesh";
import { href } from "./model/route";
import { AlertsPage } from "./pages/alerts";
import { ContractsPage } from "./pages/contracts";
import { HealthPage } from "./pages/health";
import { MailPage } from "./pages/mail";
import { OverviewPage } from "./pages/overview";
import { QueuesPage } from "./pages/queues";
import { RunbookPage } from "./pages/runbook";
import { ServicesPage } from "./pages/services";
import { SignInPage } from "./pages/signin";
import { TracePage } from "./pages/trace";
import { TracesPage } from "./pages/traces";
import { Asking } from "./parts/ask";
import { Icon, Mark, Weave } from "./parts/marks";
import { route } from "./parts/place";
import { Empty, InDocs } from "./parts/states";
import { guide, look } from "./wire/guide";
import { again, follow, forget, heard, link, mesh, now, stale } from "./wire/live";
import { operator, session, signOut } from "./wire/session";

const PAGES = [
  { page: "overview", title: "Overview" },
  { page: "services", title: "Services" },
  { page: "traces", title: "Traces" },
  { page: "queues", title: "Queues" },
  { page: "contracts", title: "Contracts" },
  { page: "alerts", title: "Alerts" },
  { page: "mail", title: "Mail" },
  { page: "health", title: "Stores" },
];

export function App() {
  const user = session.value?.user;
  const { page, item } = route.value;
  // At each page, as long as there are none.
  useEffect(() => void look(), [page, item, user]);
  useEffect(() => {
    if (!user) return;
    forget();
    const ended = new AbortController();
    follow(ended.signal);
    return () => ended.abort();
  }, [user]);
  if (!user) return <SignInPage />;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the page
      </button>
      <div class="frame">
        <Rail user={user} />
        <div>
          <Banner />
          <Main />
        </div>
      </div>
      <Asking />
    </>
  );
}

function Main() {
  const { page, item } = route.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const title = PAGES.find((one) => one.page === page)?.title ?? "Weft";
  useEffect(() => {
    document.title = `${title}${item ? ` · ${item.slice(0, 40)}` : ""} · Weft`;
    // Whoever hears the page is told that it is another one; the first stays where the browser put it.
    if (!first.current) main.current?.focus({ preventScroll: page === route.peek().page });
    first.current = false;
  }, [page, item, title]);
  return (
    <main id="main" ref={main} tabIndex={-1} class="page" aria-label={title}>
      <Page page={page} item={item} />
    </main>
  );
}

function Page({ page, item }: { page: string; item: string }) {
  switch (page) {
    case "overview":
      return <OverviewPage />;
    case "services":
      return <ServicesPage chosen={item} />;
    case "traces":
      return item ? <TracePage trace={item} /> : <TracesPage />;
    case "queues":
      return <QueuesPage chosen={item} />;
    case "contracts":
      return <ContractsPage chosen={item} />;
    case "alerts":
      return <AlertsPage />;
    case "runbooks":
      return <RunbookPage name={item} />;
    case "mail":
      return <MailPage chosen={item} />;
    case "health":
      return <HealthPage />;
    default:
      return (
        <div class="panel">
          <Empty title="There is no such page">Choose one on the left.</Empty>
        </div>
      );
  }
}

function Rail({ user }: { user: string }) {
  const { page } = route.value;
  const seen = mesh.value;
  const figures = seen && headline(seen);
  const tallies: Record<string, number | undefined> = { alerts: figures?.firing, queues: figures?.deadLetters };
  return (
    <header class="rail">
      <a class="brand" href={href("overview")}>
        <Weave /> Weft
      </a>
      <nav aria-label="Pages">
        <ul>
          {PAGES.filter((one) => one.page !== "mail" || operator.value).map((one) => (
            <li key={one.page}>
              <a href={href(one.page)} aria-current={page === one.page ? "page" : undefined}>
                <Icon name={one.page} />
                {one.title}
                {!!tallies[one.page] && <span class="tally bad">{count(tallies[one.page])}</span>}
              </a>
            </li>
          ))}
          {guide.value && (
            <li>
              <a href={DOCS}>
                <Icon name="docs" />
                Docs
              </a>
            </li>
          )}
        </ul>
      </nav>
      <div class="foot">
        <Pulse />
        <span class="cut quiet" title={user}>
          {id(user)}
          {operator.value && " · operator"}
        </span>
        <button type="button" onClick={() => signOut()}>
          Sign out
        </button>
      </div>
    </header>
  );
}

function Pulse() {
  const state = link.value.state;
  if (state === "live" && !stale.value) return <Mark condition="good">live</Mark>;
  if (state === "connecting") {
    return (
      <Mark condition="idle" pulse>
        connecting
      </Mark>
    );
  }
  return <Mark condition="bad">{heard.value ? `${length(Math.max(0, now.value - heard.value))} old` : "no news"}</Mark>;
}

function Banner() {
  const state = link.value;
  if (state.state === "lost") {
    const left = Math.max(0, Math.ceil((state.next - now.value) / 1000));
    return (
      <div class="banner" role="alert">
        <Mark condition="bad">
          <strong>The mesh does not answer.</strong>
        </Mark>
        <span class="figures">
          {heard.value > 0 && "What is shown is old. "}
          {/* Not read out: it changes every second. */}
          <span aria-hidden="true">
            Attempt {state.failures + 1} {left > 0 ? `in ${left} s` : "now"}.
          </span>
        </span>
        <button type="button" onClick={again}>
          Try now
        </button>
      </div>
    );
  }
  if (state.state === "denied") {
    return (
      <div class="banner warn" role="alert">
        <Mark condition="warn">
          <strong>
            {state.failure.name === "UNIMPLEMENTED"
              ? "This mesh does not tell how it does."
              : "You may not see how the mesh does."}
          </strong>
        </Mark>
        <span>
          {state.failure.name === "UNIMPLEMENTED"
            ? "No part of it serves the operations contract."
            : "An operator can grant you the scope mesh.read; sign in again then."}{" "}
          <InDocs at={ofError(guide.value, state.failure.name, state.failure.reason)}>What to do about it</InDocs>
        </span>
      </div>
    );
  }
  const missing = mesh.value?.sources.filter((source) => source.state === 2).length ?? 0;
  if (stale.value || missing > 0) {
    return (
      <div class="banner warn" role="status">
        <Mark condition="warn">
          <strong>{stale.value ? "What is shown is old." : "Some of the news is missing."}</strong>
        </Mark>
        {missing > 0 && <a href={href("health")}>{plural(missing, "source does", "sources do")} not answer</a>}
      </div>
    );
  }
  return null;
}
