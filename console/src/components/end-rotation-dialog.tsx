import {
  EndRotationDocument,
  type EnforcementPartsFragment,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { ConfirmDialog } from "./confirm-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";

interface EndRotationDialogProps {
  system: SystemPartsFragment;
  /** When the old key was last used; undefined if it is not known. */
  lastUse: string | undefined;
  onEnded: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function EndRotationDialog({ system, lastUse, onEnded, onCancel }: EndRotationDialogProps) {
  const client = useClient();
  const [reason, setReason] = useState("");
  const confirm = async () => {
    const variables = { systemId: system.id, ...given(reason) };
    const { data, error } = await client.mutation(EndRotationDocument, variables);
    if (data) onEnded(data.endRotation.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="End Rotation"
      effect="end the old key now"
      waitingFor="Waiting until every instance refuses the key…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        The old key <KeyMark mark={system.retiringKey?.mark ?? null} /> of{" "}
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        will no longer be usable. The new key goes on.
      </p>
      {lastUse !== undefined && <p>{lastUse}.</p>}
      <ReasonField value={reason} onInput={setReason} />
    </ConfirmDialog>
  );
}
