import {
  type EnforcementPartsFragment,
  RevokeKeyDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { ConfirmDialog } from "./confirm-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";

interface RevokeKeyDialogProps {
  system: SystemPartsFragment;
  onRevoked: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function RevokeKeyDialog({ system, onRevoked, onCancel }: RevokeKeyDialogProps) {
  const client = useClient();
  const { currentKey, retiringKey } = system;
  const [reason, setReason] = useState("");
  const confirm = async () => {
    const variables = { systemId: system.id, ...given(reason) };
    const { data, error } = await client.mutation(RevokeKeyDocument, variables);
    if (data) onRevoked(data.revokeKey.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Revoke API Key"
      effect={currentKey && retiringKey ? "revoke both keys" : "revoke the key"}
      waitingFor="Waiting until every instance refuses the key…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        {currentKey && (
          <>
            The current key <KeyMark mark={currentKey.mark} />
          </>
        )}
        {currentKey && retiringKey && " and "}
        {retiringKey && (
          <>
            {currentKey ? "the" : "The"} retiring key <KeyMark mark={retiringKey.mark} />
          </>
        )}{" "}
        of{" "}
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        will no longer be usable.
      </p>
      <ReasonField value={reason} onInput={setReason} />
    </ConfirmDialog>
  );
}
