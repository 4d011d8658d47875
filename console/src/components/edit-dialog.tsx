import {
  DescribeSystemDocument,
  RenameSystemDocument,
  SetExternalIdDocument,
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

/** Confirms new texts. What was saved already is not saved again after a failure. */
export function EditDialog(props: EditDialogProps) {
  const { system, edited, texts, onSaved, onRefused, onCancel } = props;
  const client = useClient();
  const { id } = system;
  const description = system.description ?? "";
  const renames = texts.name !== system.name;
  const describes = texts.description !== description;
  const externalId = system.externalId ?? "";
  const identifies = texts.externalId !== externalId;

  const rename = async () => {
    const variables = { id, name: texts.name, expectedRevision: system.revision };
    const { data, error } = await client.mutation(RenameSystemDocument, variables);
    // A newer revision has the change of another operator, which must not be overwritten unseen.
    const renamed = data?.renameSystem.system.revision ?? system.revision;
    return { revision: Math.min(renamed, system.revision + 1), error };
  };
  const describe = async (expectedRevision: number) => {
    const variables = { id, description: texts.description || null, expectedRevision };
    return (await client.mutation(DescribeSystemDocument, variables)).error;
  };
  const identify = async () => {
    const variables = { systemId: id, externalId: texts.externalId || null };
    return (await client.mutation(SetExternalIdDocument, variables)).error;
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
    if (error !== undefined) return error;
    const unidentified = identifies ? await identify() : undefined;
    const refusedId = unidentified && failureOf(unidentified);
    if (refusedId?.code === "NAME_TAKEN" || refusedId?.code === "BAD_USER_INPUT") {
      const isTaken = refusedId.code === "NAME_TAKEN";
      onRefused(
        "externalId",
        isTaken ? "Another system already has this external ID." : refusedId.message,
      );
      return undefined;
    }
    if (unidentified === undefined) onSaved();
    return unidentified;
  };

  // The new texts appear as soon as they are saved.
  const renamedByOther = system.name !== edited.name && renames;
  const describedByOther = description !== edited.description && describes;
  const identifiedByOther = externalId !== edited.externalId && identifies;
  const isWarning = renamedByOther || describedByOther || identifiedByOther;
  return (
    <ConfirmDialog
      title="Confirm the changes"
      effect={effectOf(renames, describes, identifies)}
      tone="primary"
      waitingFor="Saving…"
      revision={system.revision}
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <div role="alert" class={isWarning ? "warning" : undefined}>
        {renamedByOther && (
          <>
            Another operator changed the name from “<Name>{edited.name}</Name>” to “
            <Name>{system.name}</Name>” in the meantime.{" "}
          </>
        )}
        {describedByOther && "Another operator changed the description in the meantime. "}
        {identifiedByOther && "Another operator changed the external ID in the meantime."}
      </div>
      <dl class="change">
        {renames && <Change what="name" from={system.name} to={texts.name} />}
        {describes && <Change what="description" from={description} to={texts.description} />}
        {identifies && <Change what="external ID" from={externalId} to={texts.externalId} />}
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

function effectOf(renames: boolean, describes: boolean, identifies: boolean): string {
  const verbs = [...(renames ? ["rename"] : []), ...(describes ? ["describe"] : [])].join(" and ");
  if (verbs === "") return "change the external ID";
  return identifies ? `${verbs} the system, and change its external ID` : `${verbs} the system`;
}
