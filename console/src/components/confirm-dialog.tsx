import type { CombinedError } from "@urql/core";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { Dialog } from "./dialog";

interface ConfirmDialogProps {
  title: string;
  children: ComponentChildren;
  /** Does it; what it settles with is said in the dialog. */
  onConfirm: () => Promise<CombinedError | undefined>;
  onCancel: () => void;
}

export function ConfirmDialog({ title, children, onConfirm, onCancel }: ConfirmDialogProps) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const confirm = async () => {
    setBusy(true);
    setFailed(undefined);
    const error = await onConfirm();
    if (error === undefined) return;
    setBusy(false);
    setFailed(failureOf(error).words);
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
        <button type="button" class="danger" onClick={confirm} disabled={busy}>
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
