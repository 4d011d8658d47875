import type { CombinedError } from "@urql/core";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { DelayedStatus } from "./delayed-status";
import { Dialog } from "./dialog";

interface ConfirmDialogProps {
  title: string;
  /** The style of the Confirm button. */
  tone?: "primary" | "danger";
  /** Shown when the action takes longer than a second. */
  waitingFor?: string;
  children: ComponentChildren;
  /** Performs the action. The dialog shows the error that it resolves to. */
  onConfirm: () => Promise<CombinedError | undefined>;
  onCancel: () => void;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const { title, tone = "danger", waitingFor, children, onConfirm, onCancel } = props;
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const confirm = async () => {
    if (busy) return;
    setBusy(true);
    setErrorMessage(undefined);
    const error = await onConfirm();
    setBusy(false);
    if (error !== undefined) setErrorMessage(failureOf(error).message);
  };
  return (
    <Dialog title={title} onEscape={busy ? undefined : onCancel}>
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
        <button type="button" class={tone} onClick={confirm} aria-disabled={busy} aria-busy={busy}>
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
