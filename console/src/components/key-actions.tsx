import { useClient } from "@urql/preact";
import { useId, useState } from "preact/hooks";
import type { EnforcementPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { generateKey, type NewKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import { useMay } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { DelayedStatus } from "./delayed-status";
import { RevokeKeyDialog } from "./revoke-key-dialog";

interface KeyActionsProps {
  system: SystemPartsFragment;
  onGenerated: (newKey: NewKey) => void;
  onRevoked: (enforcement: EnforcementPartsFragment) => void;
}

/** The buttons that generate and revoke the key, each with the reason when it is disabled. */
export function KeyActions({ system, onGenerated, onRevoked }: KeyActionsProps) {
  const id = useId();
  const client = useClient();
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const [revoking, setRevoking] = useState<SystemPartsFragment>();
  const mayGenerate = useMay("create");
  const mayRevoke = useMay("edit");
  const hasKey = system.keyState === "ACTIVE";

  // Only the response to this request contains the key, so leaving the page now would lose it.
  useLeaveGuard(
    busy
      ? "The new API key is being generated and is shown only once. Leave without it?"
      : undefined,
  );
  const generate = async () => {
    if (busy) return;
    setBusy(true);
    setErrorMessage(undefined);
    const result = await generateKey(client, system.id);
    setBusy(false);
    if ("newKey" in result) onGenerated(result.newKey);
    else setErrorMessage(failureOf(result.error).message);
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
            class="primary"
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
          <DelayedStatus busy={busy}>Waiting until every instance accepts the key…</DelayedStatus>
        </div>
      )}
      {mayRevoke && (
        <div class="action">
          <button
            type="button"
            class="danger"
            disabled={!hasKey || busy}
            aria-describedby={`${id}-revoke`}
            onClick={() => setRevoking(system)}
          >
            Revoke API Key
          </button>
          <p id={`${id}-revoke`} class="quiet">
            {revokeHint(hasKey, busy)}
          </p>
        </div>
      )}
      {mayRevoke && revoking && (
        <RevokeKeyDialog
          system={revoking}
          onCancel={() => setRevoking(undefined)}
          onRevoked={(enforcement) => {
            setRevoking(undefined);
            onRevoked(enforcement);
          }}
        />
      )}
    </>
  );
}

function revokeHint(hasKey: boolean, generating: boolean): string {
  if (generating) return "You can revoke the key after it has been shown.";
  return hasKey
    ? "The current key stops working immediately."
    : "No API key exists that could be revoked.";
}
