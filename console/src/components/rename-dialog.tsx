import { useClient } from "@urql/preact";
import { RenameSystemDocument, type SystemPartsFragment } from "../gql/graphql";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";

interface RenameDialogProps {
  /** The newest state of the system. The server rejects the rename if there is a newer one. */
  system: SystemPartsFragment;
  /** The name that the system had when the operator started to edit it. */
  editedName: string;
  newName: string;
  onRenamed: () => void;
  /** Called when the name itself is refused; the field shows the reason. */
  onRefused: (message: string) => void;
  onCancel: () => void;
}

export function RenameDialog(props: RenameDialogProps) {
  const { system, editedName, newName, onRenamed, onRefused, onCancel } = props;
  const client = useClient();
  const confirm = async () => {
    const variables = { id: system.id, name: newName, expectedRevision: system.revision };
    const { data, error } = await client.mutation(RenameSystemDocument, variables);
    if (data) onRenamed();
    const failure = error && failureOf(error);
    if (failure?.code !== "NAME_TAKEN" && failure?.code !== "INVALID_NAME") return error;
    onRefused(failure.message);
    return undefined;
  };
  // The new name appears as soon as this rename succeeds.
  const renamedByOther = system.name !== editedName && system.name !== newName;
  return (
    <ConfirmDialog
      title="Confirm the changes"
      effect="rename the system"
      tone="primary"
      waitingFor="Saving…"
      revision={system.revision}
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <div role="alert" class={renamedByOther ? "warning" : undefined}>
        {renamedByOther && (
          <>
            Another operator changed the name from “<Name>{editedName}</Name>” to “
            <Name>{system.name}</Name>” in the meantime.
          </>
        )}
      </div>
      <dl class="change">
        <dt>Old name</dt>
        <dd>
          <Name>{system.name}</Name>
        </dd>
        <dt>New name</dt>
        <dd>
          <Name>{newName}</Name>
        </dd>
      </dl>
    </ConfirmDialog>
  );
}
