import type { CombinedError } from "@urql/core";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { Dialog } from "./dialog";
import { StillWaiting } from "./still-waiting";

interface ConfirmDialogProps {
  title: string;
  /** How the button looks: like any other, or like one that destroys. */
  tone?: "primary" | "danger";
  /** What is waited for, when it takes long. */
  waitingFor?: string;
  children: ComponentChildren;
  /** Does it; what it settles with is said in the dialog. */
  onConfirm: () => Promise<CombinedError | undefined>;
  onCancel: () => void;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const { title, tone = "danger", waitingFor, children, onConfirm, onCancel } = props;
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const confirm = async () => {
    if (busy) return;
    setBusy(true);
    setFailed(undefined);
    const error = await onConfirm();
    setBusy(false);
    if (error !== undefined) setFailed(failureOf(error).words);
  };
  return (
    <Dialog title={title} onEscape={busy ? undefined : onCancel}>
      {children}
      {failed && (
        <p class="error" role="alert">
          {failed}
        </p>
      )}
      <StillWaiting busy={busy}>{waitingFor}</StillWaiting>
      <div class="actions">
        <button type="button" onClick={onCancel} disabled={busy}>
          Cancel
        </button>
        {/* Not disabled while it waits: it would lose the focus. */}
        <button type="button" class={tone} onClick={confirm} aria-disabled={busy} aria-busy={busy}>
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
