import type { CombinedError } from "@urql/core";
import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { DelayedStatus } from "./delayed-status";
import { Dialog } from "./dialog";

interface ConfirmDialogProps {
  title: string;
  /** What Confirm does, such as "revoke the key". */
  effect: string;
  /** The style of the Confirm button. A primary one has the focus at first, so that Enter confirms. */
  tone?: "primary" | "danger";
  /** Shown when the action takes longer than a second. */
  waitingFor?: string;
  /** The revision that the children show. A new one removes the error of an attempt with the one before. */
  revision?: number;
  children: ComponentChildren;
  /** Performs the action. The dialog shows the error or the message that it resolves to. */
  onConfirm: () => Promise<CombinedError | string | undefined>;
  onCancel: () => void;
}

export function ConfirmDialog(props: ConfirmDialogProps) {
  const {
    title,
    effect,
    tone = "danger",
    waitingFor,
    revision,
    children,
    onConfirm,
    onCancel,
  } = props;
  const id = useId();
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const [failedRevision, setFailedRevision] = useState<number>();
  // A part of the action may have been carried out before another one failed, and has changed the revision.
  const latestRevision = useRef(revision);
  latestRevision.current = revision;
  const confirm = async () => {
    if (busy) return;
    setBusy(true);
    setErrorMessage(undefined);
    const error = await onConfirm();
    setBusy(false);
    if (error === undefined) return;
    setErrorMessage(typeof error === "string" ? error : failureOf(error).message);
    setFailedRevision(latestRevision.current);
  };
  return (
    <Dialog title={title} onEscape={busy ? undefined : onCancel}>
      {children}
      {errorMessage && failedRevision === revision && (
        <p class="error" role="alert">
          {errorMessage}
        </p>
      )}
      <DelayedStatus busy={busy}>{waitingFor}</DelayedStatus>
      <div class="actions">
        <p id={id} class="effect">
          Confirm: {effect}
        </p>
        <button type="button" onClick={onCancel} disabled={busy}>
          Cancel
        </button>
        {/* Not disabled while busy: a disabled button loses the focus. */}
        <button
          type="button"
          class={tone}
          autofocus={tone === "primary"}
          onClick={confirm}
          aria-disabled={busy}
          aria-busy={busy}
          aria-describedby={id}
        >
          Confirm
        </button>
      </div>
    </Dialog>
  );
}
