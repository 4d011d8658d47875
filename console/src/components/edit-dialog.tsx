import {
  DescribeSystemDocument,
  RenameSystemDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import type { CombinedError } from "@urql/core";
import { useClient } from "@urql/preact";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";
import type { SystemTexts } from "./system-form";

interface EditDialogProps {
  /** The newest state of the system. The server rejects the changes if there is a newer one. */
  system: SystemPartsFragment;
  /** The texts that the system had when the operator started to edit them. */
  edited: SystemTexts;
  texts: SystemTexts;
  onSaved: () => void;
  /** Called when a text itself is refused; the field shows the reason. */
  onRefused: (field: keyof SystemTexts, message: string) => void;
  onCancel: () => void;
}

/** Confirms a new name, a new description, or both. What was saved already is not saved again after a failure. */
export function EditDialog(props: EditDialogProps) {
  const { system, edited, texts, onSaved, onRefused, onCancel } = props;
  const client = useClient();
  const { id } = system;
  const description = system.description ?? "";
  const renames = texts.name !== system.name;
  const describes = texts.description !== description;

  const rename = async () => {
    const variables = { id, name: texts.name, expectedRevision: system.revision };
    const { data, error } = await client.mutation(RenameSystemDocument, variables);
    return { revision: data?.renameSystem.system.revision ?? system.revision, error };
  };
  const describe = async (expectedRevision: number) => {
    const variables = { id, description: texts.description || null, expectedRevision };
    return (await client.mutation(DescribeSystemDocument, variables)).error;
  };
  const confirm = async (): Promise<CombinedError | undefined> => {
    const renamed = renames ? await rename() : { revision: system.revision, error: undefined };
    const refusedName = renamed.error && failureOf(renamed.error);
    if (refusedName?.code === "NAME_TAKEN" || refusedName?.code === "INVALID_NAME") {
      onRefused("name", refusedName.message);
      return undefined;
    }
    if (renamed.error !== undefined) return renamed.error;
    const error = describes ? await describe(renamed.revision) : undefined;
    const refusedDescription = error && failureOf(error);
    if (refusedDescription?.code === "BAD_USER_INPUT") {
      onRefused("description", refusedDescription.message);
      return undefined;
    }
    if (error === undefined) onSaved();
    return error;
  };

  // The new texts appear as soon as they are saved.
  const renamedByOther = system.name !== edited.name && renames;
  const describedByOther = description !== edited.description && describes;
  return (
    <ConfirmDialog
      title="Confirm the changes"
      effect={effectOf(renames, describes)}
      tone="primary"
      waitingFor="Saving…"
      revision={system.revision}
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <div role="alert" class={renamedByOther || describedByOther ? "warning" : undefined}>
        {renamedByOther && (
          <>
            Another operator changed the name from “<Name>{edited.name}</Name>” to “
            <Name>{system.name}</Name>” in the meantime.{" "}
          </>
        )}
        {describedByOther && "Another operator changed the description in the meantime."}
      </div>
      <dl class="change">
        {renames && <Change what="name" from={system.name} to={texts.name} />}
        {describes && <Change what="description" from={description} to={texts.description} />}
      </dl>
    </ConfirmDialog>
  );
}

const Change = ({ what, from, to }: { what: string; from: string; to: string }) => (
  <>
    <dt>Old {what}</dt>
    <dd class="description">{from === "" ? "None" : <Name>{from}</Name>}</dd>
    <dt>New {what}</dt>
    <dd class="description">{to === "" ? "None" : <Name>{to}</Name>}</dd>
  </>
);

function effectOf(renames: boolean, describes: boolean): string {
  if (!describes) return "rename the system";
  return renames ? "rename and describe the system" : "describe the system";
}
