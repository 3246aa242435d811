/** What fires, what it means, and what to do about it. */

import { type Alert, Alert_State } from "../gen/weft/operations/v1/alerts_pb";
import { ago } from "../model/format";
import { type Condition, grave, moment } from "../model/mesh";
import { href } from "../model/route";
import { Mark } from "../parts/marks";
import { Empty, Loading } from "../parts/states";
import { ahead, link, mesh, now, stale } from "../wire/live";

export function AlertsPage() {
  const seen = mesh.value;
  return (
    <>
      <header>
        <h1>Alerts</h1>
      </header>
      <section class={`panel ${stale.value ? "old" : ""}`} aria-label="Alerts">
        {!seen ? (
          link.value.state === "denied" ? (
            <Empty title="Nothing to show" />
          ) : (
            <Loading what="alerts" />
          )
        ) : seen.alerts.length === 0 ? (
          <Empty title="No alert fires">
            Each rule is checked every few seconds. What fires appears here, gravest first.
          </Empty>
        ) : (
          <Table alerts={seen.alerts} />
        )}
      </section>
    </>
  );
}

/** `docs/runbooks/ServiceDown.md` -> `ServiceDown`. */
function runbook(path: string): string {
  return path.replace(/^.*\//, "").replace(/\.md$/, "");
}

function look(alert: Alert): Condition {
  return alert.state === Alert_State.FIRING ? grave(alert.severity) : "idle";
}

function Table({ alerts }: { alerts: readonly Alert[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
    <section class="scroll" tabIndex={0} aria-label="Alerts, table">
      <table>
        <thead>
          <tr>
            <th scope="col">Alert</th>
            <th scope="col">What is wrong</th>
            <th scope="col">About</th>
            <th scope="col" class="number">
              since
            </th>
            <th scope="col">What to do</th>
          </tr>
        </thead>
        <tbody>
          {alerts.map((alert) => (
            <tr key={alert.alert + JSON.stringify(alert.labels)}>
              <th scope="row">
                <Mark condition={look(alert)} pulse={alert.state === Alert_State.FIRING}>
                  {alert.alert}
                </Mark>
                <div class="small quiet">
                  {alert.severity}
                  {alert.state === Alert_State.PENDING && ", about to fire"}
                </div>
              </th>
              <td class="loose">
                {alert.summary}
                {alert.description && <div class="small quiet">{alert.description}</div>}
              </td>
              <td class="loose">
                {alert.service && <a href={href("services", alert.service)}>{alert.process || alert.service}</a>}
                <div class="row">
                  {Object.entries(alert.labels)
                    .filter(([name]) => !["alertname", "severity", "service", "process"].includes(name))
                    .map(([name, value]) => (
                      <span key={name} class="tag">
                        {name}: {value}
                      </span>
                    ))}
                </div>
              </td>
              <td class="number quiet">{ago(moment(alert.startTime), now.value + ahead.value)}</td>
              <td>
                {alert.runbook ? (
                  <a href={href("runbooks", runbook(alert.runbook))}>Runbook</a>
                ) : (
                  <span class="quiet">–</span>
                )}{" "}
                {alert.service && (
                  <a href={href("traces", "", { service: alert.service, errors: "1" })}>Failed traces</a>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
