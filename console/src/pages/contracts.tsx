/** The contracts as the mesh runs them: each method with its policy, its errors, and a form that calls it. */

import { useMemo, useState } from "preact/hooks";
import type { Method as Listed } from "../gen/weft/operations/v1/contracts_pb";
import { type Catalogue, catalogue, type Method } from "../model/contract";
import { plural } from "../model/format";
import { ofError, ofMethod } from "../model/guide";
import { href } from "../model/route";
import { Answer, Empty, InDocs } from "../parts/states";
import { contracts } from "../wire/clients";
import { guide } from "../wire/guide";
import { useQuery } from "../wire/query";
import { Caller } from "./caller";

interface Found {
  catalogue: Catalogue;
  /** What the mesh adds to its descriptors, by path. */
  listed: Map<string, Listed>;
}

async function fetched(signal: AbortSignal): Promise<Found> {
  const [schema, methods] = await Promise.all([
    contracts.getSchema({ name: "schemas/current" }, { signal }),
    contracts.listMethods({ pageSize: 1000 }, { signal }),
  ]);
  return {
    catalogue: catalogue(schema.descriptorSet),
    listed: new Map(methods.methods.map((method) => [method.path, method])),
  };
}

export function ContractsPage({ chosen }: { chosen: string }) {
  const found = useQuery("contracts", fetched);
  return (
    <>
      <header>
        <h1>Contracts</h1>
        <span class="quiet">as this mesh runs them</span>
      </header>
      {found.data ? (
        <Shown found={found.data} chosen={chosen} />
      ) : (
        <div class="panel">
          <Answer of={found} what="contracts">
            {() => null}
          </Answer>
        </div>
      )}
    </>
  );
}

function Shown({ found, chosen }: { found: Found; chosen: string }) {
  const methods = found.catalogue.services.flatMap((service) => service.methods);
  const method =
    methods.find((one) => one.id === chosen) ??
    methods.find((one) => one.desc.parent.typeName === chosen) ??
    methods[0];
  if (!method) {
    return (
      <div class="panel">
        <Empty title="No contract has a method" />
      </div>
    );
  }
  return (
    <div class="split narrow-first">
      <Index catalogue={found.catalogue} chosen={method.id} />
      <div class="stack">
        <About method={method} listed={found.listed.get(`/${method.id}`)} />
        <Caller
          key={method.id}
          method={method}
          registry={found.catalogue.registry}
          sample={found.listed.get(`/${method.id}`)?.sampleRequestJson ?? ""}
        />
      </div>
    </div>
  );
}

function Index({ catalogue: all, chosen }: { catalogue: Catalogue; chosen: string }) {
  const [filter, setFilter] = useState("");
  const wanted = filter.toLowerCase();
  const services = useMemo(
    () =>
      all.services
        .map((service) => ({
          ...service,
          methods: service.methods.filter((method) => method.id.toLowerCase().includes(wanted)),
        }))
        .filter((service) => service.methods.length > 0),
    [all, wanted],
  );
  return (
    <nav class="panel" aria-label="Methods">
      <header>
        <label class="field" style={{ width: "100%" }}>
          <span class="unseen">Methods whose name has</span>
          <input
            type="search"
            placeholder="Find a method"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        </label>
      </header>
      <div class="methods">
        {services.length === 0 && <Empty title="No method is called that" />}
        {services.map((service) => (
          <div key={service.id}>
            <h2 class="cut" title={service.id}>
              {service.id.replace(/^weft\./, "")}
            </h2>
            {service.methods.map((method) => (
              <a
                key={method.id}
                href={href("contracts", method.id)}
                aria-current={method.id === chosen ? "true" : undefined}
              >
                <span class="cut">{method.desc.name}</span>
                {method.desc.methodKind !== "unary" && <span class="tag">stream</span>}
                {method.open && <span class="tag">public</span>}
              </a>
            ))}
          </div>
        ))}
      </div>
    </nav>
  );
}

const EFFECTS: Record<Method["effects"], string> = {
  none: "reads only",
  repeatable: "may be repeated",
  once: "changes something",
};

function About({ method, listed }: { method: Method; listed: Listed | undefined }) {
  const comment = method.comment || listed?.comment || "";
  return (
    <section class="panel" aria-label={method.desc.name}>
      <header>
        <h2>{method.desc.name}</h2>
        <code class="quiet cut">{method.id}</code>
        <div class="aside">
          <span class="tag">{EFFECTS[method.effects]}</span>
          {method.open ? (
            <span class="tag good">public</span>
          ) : (
            method.scopes.map((scope) => (
              <span key={scope} class="tag accent square">
                {scope}
              </span>
            ))
          )}
        </div>
      </header>
      <div class="body stack">
        {comment && <p class="prose">{comment}</p>}
        <InDocs at={ofMethod(guide.value, method.id)}>All of it in the reference</InDocs>
        <div class="columns">
          <dl class="facts">
            {method.path && (
              <>
                <dt>JSON</dt>
                <dd class="mono">
                  {method.verb} {method.path}
                </dd>
              </>
            )}
            {method.terms.map((term) => [
              <dt key={term.name}>{term.name}</dt>,
              <dd key={`${term.name} value`}>
                {term.value} {!term.own && <span class="tag">of the service</span>}
              </dd>,
            ])}
            {listed?.consistency && (
              <>
                <dt>answers are</dt>
                <dd>{listed.consistency}</dd>
              </>
            )}
            {listed?.location && (
              <>
                <dt>said in</dt>
                <dd class="mono">{listed.location}</dd>
              </>
            )}
          </dl>
          <div class="stack">
            <h3>
              {method.errors.length
                ? plural(method.errors.length, "error of its own", "errors of its own")
                : "No errors of its own"}
            </h3>
            <dl class="facts">
              {method.errors.map((error) => [
                <dt key={error.reason} class="mono">
                  {error.reason}
                </dt>,
                <dd key={`${error.reason} value`}>
                  {error.comment} <span class="quiet mono">{error.code}</span>{" "}
                  <InDocs at={ofError(guide.value, error.code, error.reason)}>
                    What to do<span class="unseen"> about {error.reason}</span>
                  </InDocs>
                </dd>,
              ])}
            </dl>
          </div>
        </div>
      </div>
    </section>
  );
}
