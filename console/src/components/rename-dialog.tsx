import { useClient } from "@urql/preact";
import { RenameSystemDocument } from "../gql/graphql";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";

export interface Rename {
  id: string;
  oldName: string;
  newName: string;
  /** The revision that the operator saw; the server rejects the rename if there is a newer one. */
  expectedRevision: number;
}

interface RenameDialogProps {
  rename: Rename;
  onRenamed: () => void;
  /** Called when the name itself is refused; the field shows the reason. */
  onRefused: (message: string) => void;
  onCancel: () => void;
}

export function RenameDialog({ rename, onRenamed, onRefused, onCancel }: RenameDialogProps) {
  const client = useClient();
  const { id, oldName, newName, expectedRevision } = rename;
  const confirm = async () => {
    const variables = { id, name: newName, expectedRevision };
    const { data, error } = await client.mutation(RenameSystemDocument, variables);
    if (data) onRenamed();
    const failure = error && failureOf(error);
    if (failure?.code !== "NAME_TAKEN" && failure?.code !== "INVALID_NAME") return error;
    onRefused(failure.message);
    return undefined;
  };
  return (
    <ConfirmDialog
      title="Confirm the changes"
      tone="primary"
      waitingFor="Saving…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <dl class="change">
        <dt>Old name</dt>
        <dd>
          <Name>{oldName}</Name>
        </dd>
        <dt>New name</dt>
        <dd>
          <Name>{newName}</Name>
        </dd>
      </dl>
    </ConfirmDialog>
  );
}
