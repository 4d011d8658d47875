import type { ComponentChildren, TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { DelayedStatus } from "./delayed-status";
import { Dialog } from "./dialog";

interface FormDialogProps {
  title: string;
  submitLabel: string;
  /** Shown when the action takes longer than a second. */
  waitingFor: string;
  children: ComponentChildren;
  /** Performs the action. The dialog shows the message that it resolves to. */
  onSubmit: () => Promise<string | undefined>;
  onCancel: () => void;
}

/** A dialog with fields to fill in. */
export function FormDialog(props: FormDialogProps) {
  const { title, submitLabel, waitingFor, children, onSubmit, onCancel } = props;
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setErrorMessage(undefined);
    setErrorMessage(await onSubmit());
    setBusy(false);
  };
  return (
    <Dialog title={title} onEscape={busy ? undefined : onCancel}>
      <form onSubmit={submit} noValidate>
        {children}
        {errorMessage && (
          <p class="error" role="alert">
            {errorMessage}
          </p>
        )}
        <DelayedStatus busy={busy}>{waitingFor}</DelayedStatus>
        <div class="actions">
          <button type="button" onClick={onCancel} disabled={busy}>
            Cancel
          </button>
          {/* Not disabled while busy: a disabled button loses the focus. */}
          <button type="submit" class="primary" aria-disabled={busy} aria-busy={busy}>
            {submitLabel}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
