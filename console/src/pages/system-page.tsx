import { useState } from "preact/hooks";
import { DeleteSystemDialog } from "../components/delete-system-dialog";
import { EnforcementStatus } from "../components/enforcement-status";
import { Name } from "../components/name";
import { Notice } from "../components/notice";
import { SystemAuditTrail } from "../components/system-audit-trail";
import { SystemFacts } from "../components/system-facts";
import { SystemPageLayout } from "../components/system-page-layout";
import type { EnforcementPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { Link, navigate, useLocation } from "../router";
import { editPath, keyPath, SYSTEMS } from "../routes";
import { useMay } from "../session/viewer-context";

export function SystemPage({ id }: { id: string }) {
  const { notice } = useLocation();
  const [deleting, setDeleting] = useState<SystemPartsFragment>();
  const mayView = useMay("view");
  const mayDelete = useMay("delete");
  return (
    <>
      <SystemPageLayout
        id={id}
        title="System Detail"
        deleting={deleting}
        notice={<Notice>{notice}</Notice>}
      >
        {({ system, entries }) => (
          <>
            <SystemFacts system={system} showId />
            <SystemActions system={system} onDelete={() => setDeleting(system)} />
            {mayView && entries && <SystemAuditTrail systemId={id} appended={entries} />}
          </>
        )}
      </SystemPageLayout>
      {mayDelete && deleting && (
        <DeleteSystemDialog
          system={deleting}
          onCancel={() => setDeleting(undefined)}
          onDeleted={(enforcement) => {
            const notice = <DeletedNotice system={deleting} enforcement={enforcement} />;
            navigate(SYSTEMS, { replace: true, notice });
          }}
        />
      )}
    </>
  );
}

interface SystemActionsProps {
  system: SystemPartsFragment;
  onDelete: () => void;
}

function SystemActions({ system, onDelete }: SystemActionsProps) {
  const mayGenerate = useMay("create");
  const mayEdit = useMay("edit");
  const mayDelete = useMay("delete");
  return (
    <div class="actions">
      {(mayGenerate || mayEdit) && (
        <Link to={keyPath(system.id)} class="button primary">
          Manage API Key
        </Link>
      )}
      {mayEdit && (
        <Link to={editPath(system.id)} class="button">
          Edit
        </Link>
      )}
      {mayDelete && (
        <button type="button" class="danger" onClick={onDelete}>
          Delete System
        </button>
      )}
    </div>
  );
}

interface DeletedNoticeProps {
  system: SystemPartsFragment;
  enforcement: EnforcementPartsFragment;
}

function DeletedNotice({ system, enforcement }: DeletedNoticeProps) {
  const hadKey = system.keyState === "ACTIVE" || enforcement.state === "PENDING";
  return (
    <>
      <Name>{system.name}</Name> was deleted.{" "}
      {hadKey && (
        <EnforcementStatus verdict="refused" enforcement={enforcement} subject="Its key" />
      )}
    </>
  );
}
