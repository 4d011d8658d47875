import { useClient } from "@urql/preact";
import {
  DeleteSystemDocument,
  type EnforcementPartsFragment,
  type SystemPartsFragment,
} from "../gql/graphql";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";

interface DeleteSystemDialogProps {
  system: SystemPartsFragment;
  onDeleted: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function DeleteSystemDialog({ system, onDeleted, onCancel }: DeleteSystemDialogProps) {
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(DeleteSystemDocument, { id: system.id });
    if (data) onDeleted(data.deleteSystem.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Delete System"
      effect="delete the system and its key"
      waitingFor={
        system.keyState === "ACTIVE"
          ? "Waiting until every instance refuses the key…"
          : "Waiting until every instance has removed it…"
      }
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        and its API key will be removed. This cannot be undone. Make sure that nothing uses the key.
      </p>
    </ConfirmDialog>
  );
}
