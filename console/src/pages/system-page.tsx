import type { EnforcementPartsFragment, SystemPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { DeleteSystemDialog } from "../components/delete-system-dialog";
import { EnforcementStatus } from "../components/enforcement-status";
import { Name } from "../components/name";
import { Notice } from "../components/notice";
import { focusHeading } from "../components/page-heading";
import { SuspendDialog } from "../components/suspension-dialogs";
import { SystemAuditTrail } from "../components/system-audit-trail";
import { SystemOverview } from "../components/system-overview";
import { SystemPageLayout } from "../components/system-page-layout";
import { Link, navigate, useLocation } from "../router";
import { editPath, keyPath, SYSTEMS } from "../routes";
import { useMay } from "../session/viewer-context";
import { hasKey } from "../text/key-state";

export function SystemPage({ id }: { id: string }) {
  const { notice: arrival } = useLocation();
  const [notice, setNotice] = useState<ComponentChildren>();
  const [deleting, setDeleting] = useState<SystemPartsFragment>();
  const [suspending, setSuspending] = useState<SystemPartsFragment>();
  const mayView = useMay("view");
  const mayEdit = useMay("edit");
  const mayDelete = useMay("delete");
  // The button that opened the dialog may be gone by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <SystemPageLayout
        id={id}
        title="System Detail"
        deleting={deleting}
        notice={<Notice>{notice ?? arrival}</Notice>}
      >
        {({ system, entries }) => (
          <>
            <SystemOverview system={system} showId onNotice={setNotice} />
            <SystemActions
              system={system}
              onSuspend={() => setSuspending(system)}
              onDelete={() => setDeleting(system)}
            />
            {mayView && entries && <SystemAuditTrail systemId={id} appended={entries} />}
          </>
        )}
      </SystemPageLayout>
      {mayEdit && suspending && (
        <SuspendDialog
          system={suspending}
          onCancel={() => setSuspending(undefined)}
          onDone={(enforcement) => {
            setSuspending(undefined);
            setNotice(
              <>
                The system was suspended.{" "}
                {hasKey(suspending) && (
                  <EnforcementStatus
                    verdict="refused"
                    enforcement={enforcement}
                    subject="Its key"
                  />
                )}
              </>,
            );
          }}
        />
      )}
      {mayDelete && deleting && (
        <DeleteSystemDialog
          system={deleting}
          onCancel={() => setDeleting(undefined)}
          onDeleted={(enforcement) => {
            const deletion = <DeletedNotice system={deleting} enforcement={enforcement} />;
            navigate(SYSTEMS, { replace: true, notice: deletion });
          }}
        />
      )}
    </>
  );
}

interface SystemActionsProps {
  system: SystemPartsFragment;
  onSuspend: () => void;
  onDelete: () => void;
}

function SystemActions({ system, onSuspend, onDelete }: SystemActionsProps) {
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
      {mayEdit && system.suspendedAt === null && (
        <button type="button" class="danger" onClick={onSuspend}>
          Suspend
        </button>
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
  const hadKey = hasKey(system) || enforcement.state === "PENDING";
  return (
    <>
      <Name>{system.name}</Name> was deleted.{" "}
      {hadKey && (
        <EnforcementStatus verdict="refused" enforcement={enforcement} subject="Its key" />
      )}
    </>
  );
}
