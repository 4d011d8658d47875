import { useState } from "preact/hooks";
import { AuditEntries } from "../components/audit-entries";
import { AuditFilters } from "../components/audit-filters";
import { AuditTotal } from "../components/audit-total";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { useSeenNames } from "../components/use-seen-names";
import { navigate, useLocation } from "../router";
import { auditPath } from "../routes";
import { useMay } from "../session/viewer-context";
import { exportPath, parseAuditFilter } from "../text/audit-filter";
import { timeZoneName } from "../text/time";

export function AuditPage() {
  const mayView = useMay("view");
  return (
    <>
      <PageHeading title="Audit Log" trail={[]} />
      {mayView ? <AuditLog /> : <MissingPermission action="view" />}
    </>
  );
}

function AuditLog() {
  const { tenant, search } = useLocation();
  const filter = parseAuditFilter(search);
  const [operators, systems, collectNames] = useSeenNames();
  const [additions, setAdditions] = useState(0);
  return (
    <>
      <AuditFilters
        filter={filter}
        operators={operators}
        systems={systems}
        onChoose={(chosen) => navigate(auditPath(chosen))}
      />
      <div class="below-filters">
        <AuditTotal filter={filter} changes={additions} />
        <p>Times are in {timeZoneName(new Date())}.</p>
        <p class="exports">
          Export these entries:{" "}
          <a href={exportPath(filter, "csv", tenant)} download>
            CSV
          </a>{" "}
          <a href={exportPath(filter, "jsonl", tenant)} download>
            JSON Lines
          </a>
        </p>
      </div>
      <AuditEntries
        key={auditPath(filter)}
        filter={filter}
        onEntries={collectNames}
        onAdded={() => setAdditions((count) => count + 1)}
      />
    </>
  );
}
