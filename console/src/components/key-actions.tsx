import type { SystemPartsFragment } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";
import { generateKey, type NewKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import { useMay } from "../session/viewer-context";
import { chosenEnd, EXPIRIES, INCOMPLETE_END, NO_EXPIRY } from "../text/ends";
import { failureOf } from "../text/failures";
import { shortTime } from "../text/time";
import { DelayedStatus } from "./delayed-status";
import { EndField } from "./end-field";
import { EnforcementStatus } from "./enforcement-status";
import { KeyExpiryDialog } from "./key-expiry-dialog";
import { RevokeKeyDialog } from "./revoke-key-dialog";
import { RotateKeyDialog } from "./rotate-key-dialog";

interface KeyActionsProps {
  system: SystemPartsFragment;
  onNewKey: (newKey: NewKey) => void;
  onNotice: (notice: ComponentChildren) => void;
}

interface OpenDialog {
  action: "rotate" | "expiry" | "revoke";
  /** The system as it was when the dialog was opened. */
  system: SystemPartsFragment;
}

/** The buttons that generate, rotate and revoke the key, each with the reason when it is disabled. */
export function KeyActions({ system, onNewKey, onNotice }: KeyActionsProps) {
  const id = useId();
  const client = useClient();
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const [expiry, setExpiry] = useState(NO_EXPIRY);
  const [dialog, setDialog] = useState<OpenDialog>();
  const mayGenerate = useMay("create");
  const mayEdit = useMay("edit");
  const mayRotate = mayGenerate && mayEdit;
  const { currentKey, retiringKey } = system;
  const hasKey = currentKey !== null;
  const close = () => setDialog(undefined);

  // Only the response to this request contains the key, so leaving the page now would lose it.
  useLeaveGuard(
    busy
      ? "The new API key is being generated and is shown only once. Leave without it?"
      : undefined,
  );
  const generate = async () => {
    if (busy) return;
    const end = chosenEnd(expiry, new Date());
    if (end === undefined) {
      setErrorMessage(INCOMPLETE_END);
      return;
    }
    setBusy(true);
    setErrorMessage(undefined);
    const expiresAt = end === null ? {} : { expiresAt: end.toISOString() };
    const result = await generateKey(client, { systemId: system.id, ...expiresAt });
    setBusy(false);
    if ("newKey" in result) {
      setExpiry(NO_EXPIRY);
      onNewKey(result.newKey);
    } else setErrorMessage(failureOf(result.error).message);
  };

  return (
    <>
      {errorMessage && (
        <p class="failed" role="alert">
          {errorMessage}
        </p>
      )}
      {mayGenerate && (
        <div class="action">
          <button
            type="button"
            class={hasKey ? undefined : "primary"}
            disabled={hasKey && !busy}
            aria-disabled={busy}
            aria-busy={busy}
            aria-describedby={`${id}-generate`}
            onClick={generate}
          >
            Generate API Key
          </button>
          <p id={`${id}-generate`} class="quiet">
            {hasKey && !busy
              ? "An API key already exists. Revoke it to generate a new one."
              : "The new key is shown in full only once."}
          </p>
          {(!hasKey || busy) && (
            <div class="action-fields">
              <EndField
                label="The key expires after"
                presets={EXPIRIES}
                choice={expiry}
                onChoose={setExpiry}
              />
            </div>
          )}
          <DelayedStatus busy={busy}>Waiting until every instance accepts the key…</DelayedStatus>
        </div>
      )}
      {mayRotate && (
        <div class="action">
          <button
            type="button"
            class={hasKey && !retiringKey ? "primary" : undefined}
            disabled={!hasKey || retiringKey !== null || busy}
            aria-describedby={`${id}-rotate`}
            onClick={() => setDialog({ action: "rotate", system })}
          >
            Rotate Key
          </button>
          <p id={`${id}-rotate`} class="quiet">
            {rotateHint(system)}
          </p>
        </div>
      )}
      {mayEdit && (
        <div class="action">
          <button
            type="button"
            disabled={!hasKey || busy}
            aria-describedby={`${id}-expiry`}
            onClick={() => setDialog({ action: "expiry", system })}
          >
            Change Expiry
          </button>
          <p id={`${id}-expiry`} class="quiet">
            {expiryHint(system)}
          </p>
        </div>
      )}
      {mayEdit && (
        <div class="action">
          <button
            type="button"
            class="danger"
            disabled={(!hasKey && !retiringKey) || busy}
            aria-describedby={`${id}-revoke`}
            onClick={() => setDialog({ action: "revoke", system })}
          >
            Revoke API Key
          </button>
          <p id={`${id}-revoke`} class="quiet">
            {revokeHint(system, busy)}
          </p>
        </div>
      )}
      {mayRotate && dialog?.action === "rotate" && (
        <RotateKeyDialog
          system={dialog.system}
          onCancel={close}
          onRotated={(newKey) => {
            close();
            onNewKey(newKey);
          }}
        />
      )}
      {mayEdit && dialog?.action === "expiry" && (
        <KeyExpiryDialog
          system={dialog.system}
          keyRole="CURRENT"
          onCancel={close}
          onChanged={(expiresAt, enforcement) => {
            close();
            onNotice(
              <>
                {expiresAt === null
                  ? "The key no longer expires."
                  : `The key now expires on ${shortTime(new Date(expiresAt))}.`}{" "}
                <EnforcementStatus verdict="applied" enforcement={enforcement} />
              </>,
            );
          }}
        />
      )}
      {mayEdit && dialog?.action === "revoke" && (
        <RevokeKeyDialog
          system={dialog.system}
          onCancel={close}
          onRevoked={(enforcement) => {
            close();
            onNotice(
              <>
                The API key was revoked.{" "}
                <EnforcementStatus verdict="refused" enforcement={enforcement} /> A new key can be
                generated if needed.
              </>,
            );
          }}
        />
      )}
    </>
  );
}

function rotateHint({ currentKey, retiringKey }: SystemPartsFragment): string {
  if (retiringKey !== null) return "A rotation is in progress. End it to rotate again.";
  return currentKey === null
    ? "No API key exists that could be rotated."
    : "A new key is generated, and the current one goes on for as long as you choose.";
}

function expiryHint({ currentKey }: SystemPartsFragment): string {
  if (currentKey === null) return "No API key exists that could expire.";
  return currentKey.expiresAt === null
    ? "The current key never expires."
    : `The current key expires on ${shortTime(new Date(currentKey.expiresAt))}.`;
}

function revokeHint({ currentKey, retiringKey }: SystemPartsFragment, busy: boolean): string {
  if (busy) return "You can revoke the key after it has been shown.";
  if (currentKey === null && retiringKey === null) {
    return "No API key exists that could be revoked.";
  }
  return retiringKey === null
    ? "The current key stops working immediately."
    : "The current and the retiring key stop working immediately.";
}
