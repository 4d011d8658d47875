import type { AuditEntryPartsFragment } from "@keymark/client/documents";
import { useId, useState } from "preact/hooks";
import { Link } from "../router";
import { systemPath } from "../routes";
import { auditDetails } from "../text/audit-details";
import { exactTime, shortTime } from "../text/time";
import { AuditSentence } from "./audit-sentence";
import { memo } from "./memo";
import { Name } from "./name";
import { useFlash } from "./use-flash";

interface AuditRowProps {
  entry: AuditEntryPartsFragment;
  showSystem: boolean;
  /** Whether the entry was appended while the log was open; the row then flashes. */
  isNew?: boolean;
}

/** An entry; it opens to show all that it holds. */
export const AuditRow = memo(({ entry, showSystem, isNew = false }: AuditRowProps) => {
  const { actor, number, occurredAt, systemId, systemName, outcome, sourceAddress } = entry;
  const id = useId();
  const [open, setOpen] = useState(false);
  const time = new Date(occurredAt);
  const flashes = useFlash(0, isNew);
  return (
    <>
      <tr class={flashes ? "changed" : undefined}>
        <td>
          <time dateTime={occurredAt} title={exactTime(time)}>
            {shortTime(time)}
          </time>
        </td>
        <td>
          <Name>{actor.name}</Name>
          {actor.isPlatform && <span class="exact">Platform</span>}
        </td>
        <th scope="row">
          <AuditSentence entry={entry} />
        </th>
        {showSystem && (
          <td>
            {systemId !== null && systemName !== null && (
              <Link to={systemPath(systemId)}>
                <Name>{systemName}</Name>
              </Link>
            )}
          </td>
        )}
        <td>
          <span class={outcome === "DONE" ? "quiet" : "refused"}>
            {outcome === "DONE" ? "Done" : "Refused"}
          </span>
        </td>
        <td class="address">{sourceAddress}</td>
        <td>
          <button
            type="button"
            class="open"
            aria-label={`Details of entry ${number}`}
            aria-expanded={open}
            aria-controls={open ? id : undefined}
            onClick={() => setOpen(!open)}
          >
            <span aria-hidden="true">{open ? "▾" : "▸"}</span>
          </button>
        </td>
      </tr>
      {open && (
        <tr id={id} class="details">
          <td colSpan={showSystem ? 7 : 6}>
            <dl>
              {auditDetails(entry).map(([label, value]) => (
                <div key={label}>
                  <dt>{label}</dt>
                  <dd>
                    <Name>{value}</Name>
                  </dd>
                </div>
              ))}
            </dl>
          </td>
        </tr>
      )}
    </>
  );
});
