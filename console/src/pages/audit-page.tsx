import { AuditEntries } from "../components/audit-entries";
import { AuditFilters } from "../components/audit-filters";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { useSeenNames } from "../components/use-seen-names";
import { navigate, usePlace } from "../router";
import { auditAddress } from "../routes";
import { useMay } from "../session/viewer-context";
import { auditChoice, exportAddress } from "../text/audit-filter";

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
  const { search } = usePlace();
  const choice = auditChoice(search);
  const [operators, systems, noteNames] = useSeenNames();
  return (
    <>
      <AuditFilters
        choice={choice}
        operators={operators}
        systems={systems}
        onChoose={(chosen) => navigate(auditAddress(chosen))}
      />
      <p class="exports">
        Export what is filtered:{" "}
        <a href={exportAddress(choice, "csv")} download>
          CSV
        </a>{" "}
        <a href={exportAddress(choice, "jsonl")} download>
          JSON Lines
        </a>
      </p>
      <AuditEntries key={auditAddress(choice)} choice={choice} onSeen={noteNames} />
    </>
  );
}
