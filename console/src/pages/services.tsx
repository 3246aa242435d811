/** What runs: services and their processes; restart, roll, scale and kill for an operator. */

import { Kind, type Mesh, type Process, type Service } from "../gen/weft/operations/v1/mesh_pb";
import { ago, bytes, percent, rate } from "../model/format";
import {
  errorCondition,
  errorShare,
  id,
  kindName,
  moment,
  processesOf,
  processState,
  serviceCondition,
} from "../model/mesh";
import { href } from "../model/route";
import { Mark, Meter, Spark } from "../parts/marks";
import { Empty, Loading } from "../parts/states";
import { ahead, history, link, mesh, now, stale } from "../wire/live";
import { operator } from "../wire/session";
import { askKill, askRestart, askRoll, askScale } from "./deeds";

export function ServicesPage({ chosen }: { chosen: string }) {
  const seen = mesh.value;
  const service = seen?.services.find((one) => id(one.name) === chosen);
  return (
    <>
      <header>
        <h1>Services</h1>
        {chosen && (
          <>
            <span class="quiet">/ {chosen}</span>
            <a href={href("services")}>All services</a>
          </>
        )}
      </header>
      {!seen && (
        <div class="panel">
          {link.value.state === "denied" ? <Empty title="Nothing to show" /> : <Loading what="services" />}
        </div>
      )}
      {seen && !chosen && <All mesh={seen} />}
      {seen && service && <One service={service} processes={processesOf(seen, chosen)} />}
      {seen && chosen && !service && (
        <div class="panel">
          <Empty title={`No service is called ${chosen}`}>It may have left, or not come yet.</Empty>
        </div>
      )}
    </>
  );
}

const GROUPS: { title: string; kinds: Kind[] }[] = [
  { title: "Edge and services", kinds: [Kind.GATEWAY, Kind.SERVICE] },
  { title: "Workers", kinds: [Kind.WORKER] },
  {
    title: "Platform",
    kinds: [
      Kind.CONTROL_PLANE,
      Kind.ETCD,
      Kind.MEMCACHED,
      Kind.RABBITMQ,
      Kind.DATABASE,
      Kind.MONITOR,
      Kind.UNSPECIFIED,
    ],
  },
];

function All({ mesh: seen }: { mesh: Mesh }) {
  return (
    <div class={`stack ${stale.value ? "old" : ""}`}>
      {GROUPS.map(({ title, kinds }) => {
        const services = seen.services.filter((service) => kinds.includes(service.kind));
        return (
          services.length > 0 && (
            <section key={title} class="panel" aria-label={title}>
              <header>
                <h2>{title}</h2>
              </header>
              <Table services={services} label={title} />
            </section>
          )
        );
      })}
    </div>
  );
}

function Table({ services, label }: { services: readonly Service[]; label: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label={`${label}, table`}>
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Ready</th>
            <th scope="col">Wanted</th>
            <th scope="col">Load</th>
            <th scope="col" class="number">
              per second
            </th>
            <th scope="col">2 minutes</th>
            <th scope="col" class="number">
              failed
            </th>
            <th scope="col">Version</th>
            <th scope="col">
              <span class="unseen">Deeds</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {services.map((service) => (
            <tr key={service.name}>
              <th scope="row">
                <a href={href("services", id(service.name))}>{id(service.name)}</a>{" "}
                <span class="quiet">{kindName(service.kind)}</span>{" "}
                {service.lanes.map((lane) => (
                  <span key={lane} class="tag accent">
                    lane {lane}
                  </span>
                ))}
              </th>
              <td>
                <Mark condition={serviceCondition(service)} pulse={service.rolling}>
                  {service.readyProcesses} of {service.processes}
                  {service.rolling && ", rolling"}
                </Mark>
              </td>
              <td class="quiet">{wanted(service)}</td>
              <td>{service.load === undefined ? <span class="quiet">–</span> : <Load service={service} />}</td>
              <td class="number">{rate(service.rate)}</td>
              <td>
                <Spark figures={history.value.get(service.name) ?? []} />
              </td>
              <td class={`number ${errorCondition(errorShare(service)) === "bad" ? "bad" : ""}`}>
                {percent(errorShare(service))}
              </td>
              <td class="mono">{service.versions.join(", ") || "–"}</td>
              <td class="number">{operator.value && <Deeds service={service} />}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function wanted(service: Service): string {
  if (service.size === undefined) return "fixed";
  return service.bounds
    ? `${service.size}, by load ${service.bounds.min}–${service.bounds.max}`
    : `${service.size}, by hand`;
}

function Load({ service }: { service: Service }) {
  const share = service.readyProcesses > 0 ? (service.load ?? 0) / service.readyProcesses : 1;
  return (
    <span class="figure">
      <Meter share={share} />
      {percent(Math.min(share, 9.99))}
    </span>
  );
}

function Deeds({ service }: { service: Service }) {
  return (
    <span class="row" style={{ justifyContent: "end", flexWrap: "nowrap" }}>
      {service.scalable && (
        <button type="button" onClick={() => askScale(service)} aria-label={`Scale ${id(service.name)}`}>
          Scale
        </button>
      )}
      {(service.kind === Kind.SERVICE || service.kind === Kind.WORKER || service.kind === Kind.GATEWAY) && (
        <button
          type="button"
          onClick={() => askRoll(service)}
          disabled={service.rolling}
          aria-label={`Roll ${id(service.name)}`}
        >
          Roll
        </button>
      )}
    </span>
  );
}

function One({ service, processes }: { service: Service; processes: readonly Process[] }) {
  return (
    <div class={`stack ${stale.value ? "old" : ""}`}>
      <section class="panel" aria-label={`What ${id(service.name)} does`}>
        <header>
          <h2>{id(service.name)}</h2>
          <Mark condition={serviceCondition(service)} pulse={service.rolling}>
            {service.readyProcesses} of {service.processes} ready{service.rolling && ", rolling"}
          </Mark>
          <span class="quiet">wanted: {wanted(service)}</span>
          <div class="aside">
            <a href={href("traces", "", { service: id(service.name) })}>Traces</a>
            {errorShare(service) ? (
              <a href={href("traces", "", { service: id(service.name), errors: "1" })}>Errors</a>
            ) : null}
            {operator.value && <Deeds service={service} />}
          </div>
        </header>
        <div class="body row" style={{ gap: "32px" }}>
          <div>
            <div class="small quiet">per second</div>
            <span class="figure">{rate(service.rate)}</span>{" "}
            <Spark figures={history.value.get(service.name) ?? []} width={160} />
          </div>
          <div>
            <div class="small quiet">failed</div>
            <span class="figure">{percent(errorShare(service))}</span>
          </div>
          <div>
            <div class="small quiet">load</div>
            {service.load === undefined ? "–" : <Load service={service} />}
          </div>
          {service.contracts.length > 0 && (
            <div>
              <div class="small quiet">contracts</div>
              {service.contracts.map((contract) => (
                <a key={contract} class="mono" href={href("contracts", contract)} style={{ marginRight: "12px" }}>
                  {contract}
                </a>
              ))}
            </div>
          )}
        </div>
      </section>
      <section class="panel" aria-label="Processes">
        <header>
          <h2>Processes</h2>
        </header>
        {processes.length === 0 ? <Empty title="No process of it runs" /> : <Processes processes={processes} />}
      </section>
      {processes
        .filter((process) => process.logLines.length > 0)
        .map((process) => (
          <section key={process.name} class="panel" aria-label={`Last lines of ${id(process.name)}`}>
            <header>
              <h2>Last lines of {id(process.name)}</h2>
              <span class="quiet">{process.reason}</span>
            </header>
            <div class="body">
              <pre class="quote">{process.logLines.join("\n")}</pre>
            </div>
          </section>
        ))}
    </div>
  );
}

function Processes({ processes }: { processes: readonly Process[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label="Processes, table">
      <table>
        <thead>
          <tr>
            {["Name", "State", "for", "Busy"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
            {["per second", "failed", "cores", "memory", "restarts"].map((name) => (
              <th key={name} scope="col" class="number">
                {name}
              </th>
            ))}
            <th scope="col">Version</th>
            <th scope="col">Address</th>
            <th scope="col">
              <span class="unseen">Deeds</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {processes.map((process) => (
            <ProcessRow key={process.name} process={process} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function ProcessRow({ process }: { process: Process }) {
  const { word, condition } = processState(process);
  const name = id(process.name);
  return (
    <tr>
      <th scope="row">
        {name} {process.role && <span class="tag">{process.role}</span>}{" "}
        {process.lane && <span class="tag accent">lane {process.lane}</span>}
      </th>
      <td>
        <Mark condition={condition} pulse={word === "starting" || word === "draining"}>
          {word}
        </Mark>
      </td>
      <td class="quiet figure">{ago(moment(process.stateTime), now.value + ahead.value)}</td>
      <td>
        {process.utilization === undefined ? (
          <span class="quiet">–</span>
        ) : (
          <span class="figure">
            <Meter share={process.utilization} />
            {percent(process.utilization)}
          </span>
        )}
      </td>
      <td class="number">{rate(process.rate)}</td>
      <td class="number">{percent(errorShare(process))}</td>
      <td class="number">{process.cpuCores === undefined ? "–" : process.cpuCores.toFixed(2)}</td>
      <td class="number">{bytes(process.memoryBytes)}</td>
      <td class={`number ${process.restarts > 0 ? "warn" : ""}`}>{process.restarts}</td>
      <td class="mono">{process.version || "–"}</td>
      <td class="mono quiet">{process.listenAddress || "–"}</td>
      <td class="number">
        {operator.value && (
          <span class="row" style={{ justifyContent: "end", flexWrap: "nowrap" }}>
            <button type="button" onClick={() => askRestart(process)} aria-label={`Restart ${name}`}>
              Restart
            </button>
            <button type="button" onClick={() => askKill(process)} aria-label={`Kill ${name}`}>
              Kill
            </button>
          </span>
        )}
      </td>
    </tr>
  );
}
