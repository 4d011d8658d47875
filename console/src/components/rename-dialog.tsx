import { useClient } from "@urql/preact";
import { RenameSystemDocument } from "../gql/graphql";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";

export interface Rename {
  id: string;
  oldName: string;
  newName: string;
  /** The revision that was looked at: a newer one is not overwritten. */
  expectedRevision: number;
}

interface RenameDialogProps {
  rename: Rename;
  onRenamed: () => void;
  /** The name itself is not good: the field says so. */
  onRefused: (words: string) => void;
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
    onRefused(failure.words);
    return undefined;
  };
  return (
    <ConfirmDialog
      title="Confirm the changes"
      tone="primary"
      waitingFor="Waiting for the answer…"
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
