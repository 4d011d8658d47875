import {
  type EnforcementPartsFragment,
  RevokeServiceTokenDocument,
  RevokeVerifierTokenDocument,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import type { NewToken } from "./new-token-dialog";
import { TimeAgo } from "./time-ago";
import type { TokenRow } from "./token-table";

interface RevokeTokenDialogProps {
  kind: NewToken["kind"];
  token: TokenRow;
  onRevoked: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function RevokeTokenDialog({ kind, token, onRevoked, onCancel }: RevokeTokenDialogProps) {
  const client = useClient();
  const { id } = token;
  const request = async () => {
    if (kind === "service") {
      const { data, error } = await client.mutation(RevokeServiceTokenDocument, { id });
      return { payload: data?.revokeServiceToken, error };
    }
    const { data, error } = await client.mutation(RevokeVerifierTokenDocument, { id });
    return { payload: data?.revokeVerifierToken, error };
  };
  const confirm = async () => {
    const { payload, error } = await request();
    if (payload) onRevoked(payload.enforcement);
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title="Revoke Token"
      effect="revoke the token"
      waitingFor="Waiting until every instance refuses the token…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        The token <KeyMark mark={token.mark} /> of{" "}
        <strong>
          <Name>{token.name}</Name>
        </strong>{" "}
        will no longer be usable, nor will one that it replaced.{" "}
        {kind === "verifier" &&
          "Verifications with it are refused: whatever uses it lets nobody in. "}
        {token.lastUsedAt === null ? (
          "It was never used."
        ) : (
          <>
            It was last used <TimeAgo time={token.lastUsedAt} />.
          </>
        )}
      </p>
    </ConfirmDialog>
  );
}
