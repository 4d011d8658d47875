import {
  DeleteSystemDocument,
  type EnforcementPartsFragment,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { hasLiveKey } from "../text/key-state";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";

interface DeleteSystemDialogProps {
  system: SystemPartsFragment;
  onDeleted: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function DeleteSystemDialog({ system, onDeleted, onCancel }: DeleteSystemDialogProps) {
  const client = useClient();
  const [reason, setReason] = useState("");
  const confirm = async () => {
    const variables = { id: system.id, ...given(reason) };
    const { data, error } = await client.mutation(DeleteSystemDocument, variables);
    if (data) onDeleted(data.deleteSystem.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Delete System"
      effect="delete the system and its key"
      waitingFor={
        hasLiveKey(system)
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
      {hasLiveKey(system) && (
        <p class="quiet">
          If you are not sure, suspend the system first: its key is refused, and you can resume it.
        </p>
      )}
      <ReasonField value={reason} onInput={setReason} />
    </ConfirmDialog>
  );
}
