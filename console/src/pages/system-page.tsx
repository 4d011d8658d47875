import { useState } from "preact/hooks";
import { DeleteSystemDialog } from "../components/delete-system-dialog";
import { Enforced } from "../components/enforced";
import { Name } from "../components/name";
import { Notice } from "../components/notice";
import { SystemFacts } from "../components/system-facts";
import { SystemFrame } from "../components/system-frame";
import { SystemTrail } from "../components/system-trail";
import type { EnforcementPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { Link, navigate, usePlace } from "../router";
import { editAddress, keyAddress, SYSTEMS } from "../routes";
import { useMay } from "../session/viewer-context";

export function SystemPage({ id }: { id: string }) {
  const { notice } = usePlace();
  const [deleting, setDeleting] = useState<SystemPartsFragment>();
  const mayView = useMay("view");
  const mayDelete = useMay("delete");
  return (
    <>
      <SystemFrame
        id={id}
        title="System Detail"
        leaving={deleting}
        notice={<Notice>{notice}</Notice>}
      >
        {({ system, entries }) => (
          <>
            <SystemFacts system={system} />
            <SystemActions system={system} onDelete={() => setDeleting(system)} />
            {mayView && entries && <SystemTrail systemId={id} appended={entries} />}
          </>
        )}
      </SystemFrame>
      {mayDelete && deleting && (
        <DeleteSystemDialog
          system={deleting}
          onCancel={() => setDeleting(undefined)}
          onDeleted={(enforcement) => {
            const said = <Deleted system={deleting} enforcement={enforcement} />;
            navigate(SYSTEMS, { replace: true, notice: said });
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

/** What may be done to a system. */
function SystemActions({ system, onDelete }: SystemActionsProps) {
  const mayGenerate = useMay("create");
  const mayEdit = useMay("edit");
  const mayDelete = useMay("delete");
  return (
    <div class="actions">
      {(mayGenerate || mayEdit) && (
        <Link to={keyAddress(system.id)} class="button primary">
          Manage API Key
        </Link>
      )}
      {mayEdit && (
        <Link to={editAddress(system.id)} class="button">
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

interface DeletedProps {
  system: SystemPartsFragment;
  enforcement: EnforcementPartsFragment;
}

/** Of its key too, where there was one to refuse. */
function Deleted({ system, enforcement }: DeletedProps) {
  const hadKey = system.keyState === "ACTIVE" || enforcement.state === "PENDING";
  return (
    <>
      <Name>{system.name}</Name> was deleted.{" "}
      {hadKey && <Enforced verdict="refused" enforcement={enforcement} />}
    </>
  );
}
