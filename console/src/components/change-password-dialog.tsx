import { useState } from "preact/hooks";
import { ChangePasswordForm } from "./change-password-form";
import { Dialog } from "./dialog";

interface ChangePasswordDialogProps {
  onChanged: () => void;
  onCancel: () => void;
}

export function ChangePasswordDialog({ onChanged, onCancel }: ChangePasswordDialogProps) {
  const [busy, setBusy] = useState(false);
  return (
    <Dialog title="Change password" onEscape={busy ? undefined : onCancel}>
      <ChangePasswordForm
        hint="Your other sessions will be signed out."
        onChanged={onChanged}
        onBusy={setBusy}
      >
        {(disabled) => (
          <button type="button" onClick={onCancel} disabled={disabled}>
            Cancel
          </button>
        )}
      </ChangePasswordForm>
    </Dialog>
  );
}
