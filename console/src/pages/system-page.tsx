import { useState } from "preact/hooks";
import { DeleteSystemDialog } from "../components/delete-system-dialog";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { SystemFacts } from "../components/system-facts";
import { SystemOr } from "../components/system-or";
import type { SystemPartsFragment } from "../gql/graphql";
import { Link, navigate } from "../router";
import { keyAddress, SYSTEMS } from "../routes";
import { useMay } from "../session/viewer-context";
import { enforcementText } from "../text/enforcement";

export function SystemPage({ id }: { id: string }) {
  const [deleting, setDeleting] = useState<SystemPartsFragment>();
  const mayView = useMay("view");
  const mayGenerate = useMay("create");
  const mayRevoke = useMay("edit");
  const mayDelete = useMay("delete");
  return (
    <>
      <PageHeading title="System Detail" trail={[]} />
      {mayView ? (
        <SystemOr id={id} leaving={deleting}>
          {(system) => (
            <>
              <SystemFacts system={system} />
              <div class="actions">
                {(mayGenerate || mayRevoke) && (
                  <Link to={keyAddress(id)} class="button primary">
                    Manage API Key
                  </Link>
                )}
                {mayDelete && (
                  <button type="button" class="danger" onClick={() => setDeleting(system)}>
                    Delete System
                  </button>
                )}
              </div>
            </>
          )}
        </SystemOr>
      ) : (
        <MissingPermission action="view" />
      )}
      {deleting && (
        <DeleteSystemDialog
          system={deleting}
          onCancel={() => setDeleting(undefined)}
          onDeleted={(enforcement) =>
            navigate(SYSTEMS, {
              replace: true,
              notice: `${deleting.name} was deleted. ${enforcementText(enforcement)}`,
            })
          }
        />
      )}
    </>
  );
}
