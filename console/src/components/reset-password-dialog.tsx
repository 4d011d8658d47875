import {
  type OperatorPartsFragment,
  ResetOperatorPasswordDocument,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { receiveSecret } from "../graph/secrets";
import { useLeaveGuard } from "../router";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";
import type { NewPassword } from "./new-password-dialog";

interface ResetPasswordDialogProps {
  operator: OperatorPartsFragment;
  onReset: (newPassword: NewPassword) => void;
  onCancel: () => void;
}

export function ResetPasswordDialog({ operator, onReset, onCancel }: ResetPasswordDialogProps) {
  const client = useClient();
  const [resetting, setResetting] = useState(false);
  // Only the response to this request contains the password, so leaving the page now would lose it.
  useLeaveGuard(resetting ? "The new password is shown only once. Leave without it?" : undefined);
  const confirm = async () => {
    setResetting(true);
    const result = await receiveSecret((receiver) =>
      client.mutation(ResetOperatorPasswordDocument, { id: operator.id }, receiver),
    );
    setResetting(false);
    if ("error" in result) return failureOf(result.error, "other").message;
    const { enforcement } = result.data.resetOperatorPassword;
    const { username } = operator;
    onReset({ password: result.secret, username, isReset: true, enforcement });
    return undefined;
  };
  return (
    <ConfirmDialog
      title="Reset Password"
      effect="generate a one-time password"
      waitingFor="Waiting until every instance has ended the sessions…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{operator.username}</Name>
        </strong>{" "}
        gets a one-time password, shown once, which they replace when they sign in. Their password
        of now is no longer valid, and all their sessions end.
      </p>
    </ConfirmDialog>
  );
}
