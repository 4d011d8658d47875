import type { EnforcementPartsFragment } from "@keymark/client/documents";
import { EnforcementStatus } from "./enforcement-status";
import { Name } from "./name";
import { ShownOnceDialog } from "./shown-once-dialog";

/** The one-time password of an operator. Only the dialog that shows it may hold one. */
export interface NewPassword {
  password: string;
  username: string;
  /** Whether it replaces another one. */
  isReset: boolean;
  enforcement: EnforcementPartsFragment;
}

interface NewPasswordDialogProps {
  newPassword: NewPassword;
  onClose: () => void;
}

export function NewPasswordDialog({ newPassword, onClose }: NewPasswordDialogProps) {
  const { password, username, isReset, enforcement } = newPassword;
  return (
    <ShownOnceDialog
      title={isReset ? "Password Reset" : "Operator Added"}
      noun="password"
      label="One-time Password"
      secret={password}
      ifLost="If it is lost, reset the password again."
      advice="Hand it over so that nobody else can read it. It is valid for 24 hours, and has to be replaced at the first sign-in."
      onClose={onClose}
    >
      <p>
        <strong>
          <Name>{username}</Name>
        </strong>{" "}
        signs in with this password.
        {isReset && " All their sessions have ended, and their former password is not valid."}
        <br />
        <span class="quiet">
          <EnforcementStatus verdict="applied" enforcement={enforcement} />
        </span>
      </p>
    </ShownOnceDialog>
  );
}
