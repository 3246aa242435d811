/** Mail that the mesh sent into its own mailbox. */

import { ago, count } from "../model/format";
import { id, moment } from "../model/mesh";
import { href } from "../model/route";
import { Answer, Empty } from "../parts/states";
import { mails } from "../wire/clients";
import { ahead, now } from "../wire/live";
import { useQuery } from "../wire/query";

const REFRESH_MS = 2000;

export function MailPage({ chosen }: { chosen: string }) {
  const found = useQuery("mail", (signal) => mails.listMails({ pageSize: 200 }, { signal }), REFRESH_MS);
  return (
    <>
      <header>
        <h1>Mail</h1>
        {found.data && (
          <span class="quiet">
            {count(found.data.totalSize)} sent, {count(found.data.deliveries)} delivered
            {found.data.deliveries > found.data.totalSize && ": some came twice, with one Message-ID"}
          </span>
        )}
      </header>
      <div class={chosen ? "split even" : ""}>
        <section class="panel" aria-label="Mail">
          <Answer of={found} what="mail">
            {(answer) =>
              answer.mails.length === 0 ? (
                <Empty title="No mail yet">
                  Every accepted order sends one. Mail of a mesh on one machine leaves it never: it comes here.
                </Empty>
              ) : (
                // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable without a mouse
                <section class="scroll" tabIndex={0} aria-label="Mail, table">
                  <table>
                    <thead>
                      <tr>
                        <th scope="col">Subject</th>
                        <th scope="col">To</th>
                        <th scope="col">Kind</th>
                        <th scope="col" class="number">
                          came
                        </th>
                      </tr>
                    </thead>
                    <tbody>
                      {answer.mails.map((mail) => (
                        <tr key={mail.name} aria-selected={id(mail.name) === chosen}>
                          <th scope="row" class="loose">
                            <a href={href("mail", id(mail.name))}>{mail.subject || "no subject"}</a>
                          </th>
                          <td class="loose">{mail.recipients.join(", ")}</td>
                          <td class="quiet">{mail.kind || "–"}</td>
                          <td class="number quiet">{ago(moment(mail.receiveTime), now.value + ahead.value)}</td>
                        </tr>
                      ))}
                    </tbody>
                  </table>
                </section>
              )
            }
          </Answer>
        </section>
        {chosen && <One mail={chosen} />}
      </div>
    </>
  );
}

function One({ mail }: { mail: string }) {
  const found = useQuery(mail, (signal) => mails.getMail({ name: `mails/${mail}` }, { signal }));
  return (
    <section class="panel" aria-label="The mail">
      <header>
        <h2>{found.data?.subject || "Mail"}</h2>
        <div class="aside">
          <a class="button" href={href("mail")}>
            Close
          </a>
        </div>
      </header>
      <Answer of={found} what="the mail">
        {(read) => (
          <div class="body stack">
            <dl class="facts">
              {read.headers.map((header) => [
                <dt key={header.header}>{header.header}</dt>,
                <dd key={`${header.header} value`}>{header.value}</dd>,
              ])}
            </dl>
            {read.text ? <pre class="quote">{read.text}</pre> : <Empty title="It has no text" />}
          </div>
        )}
      </Answer>
    </section>
  );
}
