import type { CombinedError } from "@urql/core";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { Dialog } from "./dialog";

interface ConfirmDialogProps {
  title: string;
  /** How the button looks: like any other, or like one that destroys. */
  tone?: "primary" | "danger";
  children: ComponentChildren;
  /** Does it; what it settles with is said in the dialog. */
  onConfirm: () => Promise<CombinedError | undefined>;
  onCancel: () => void;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const { title, tone = "danger", children, onConfirm, onCancel } = props;
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const confirm = async () => {
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
      <div class="actions">
        <button type="button" onClick={onCancel} disabled={busy}>
          Cancel
        </button>
        <button type="button" class={tone} onClick={confirm} disabled={busy} aria-busy={busy}>
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
