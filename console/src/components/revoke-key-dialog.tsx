import { useClient } from "@urql/preact";
import {
  type EnforcementPartsFragment,
  RevokeKeyDocument,
  type SystemPartsFragment,
} from "../gql/graphql";
import { ConfirmDialog } from "./confirm-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";

interface RevokeKeyDialogProps {
  system: SystemPartsFragment;
  onRevoked: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function RevokeKeyDialog({ system, onRevoked, onCancel }: RevokeKeyDialogProps) {
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(RevokeKeyDocument, { systemId: system.id });
    if (data) onRevoked(data.revokeKey.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Revoke API Key"
      effect="revoke the key"
      waitingFor="Waiting until every instance refuses the key…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        The current key <KeyMark mark={system.keyMark} /> of{" "}
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        will no longer be usable.
      </p>
    </ConfirmDialog>
  );
}
