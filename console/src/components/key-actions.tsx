import { useClient } from "@urql/preact";
import { useId, useState } from "preact/hooks";
import type { EnforcementPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { generateKey, type NewKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import { useMay } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { RevokeKeyDialog } from "./revoke-key-dialog";
import { StillWaiting } from "./still-waiting";

interface KeyActionsProps {
  system: SystemPartsFragment;
  onGenerated: (newKey: NewKey) => void;
  onRevoked: (enforcement: EnforcementPartsFragment) => void;
}

/** Generating and revoking, each with the reason why it cannot be done now. */
export function KeyActions({ system, onGenerated, onRevoked }: KeyActionsProps) {
  const id = useId();
  const client = useClient();
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const [revoking, setRevoking] = useState<SystemPartsFragment>();
  const mayGenerate = useMay("create");
  const mayRevoke = useMay("edit");
  const hasKey = system.keyState === "ACTIVE";

  // Nobody would ever see the key: its only answer is on its way to this page.
  useLeaveGuard(
    busy ? "The new API key is on its way and shown only once. Leave without it?" : undefined,
  );
  const generate = async () => {
    if (busy) return;
    setBusy(true);
    setFailed(undefined);
    const generated = await generateKey(client, system.id);
    setBusy(false);
    if ("newKey" in generated) onGenerated(generated.newKey);
    else setFailed(failureOf(generated.error).words);
  };

  return (
    <>
      {failed && (
        <p class="failed" role="alert">
          {failed}
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
              ? "This system has a key. Revoke it to generate another."
              : "The new key is shown in full once."}
          </p>
          <StillWaiting busy={busy}>Waiting until every instance accepts the key…</StillWaiting>
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
            {revocable(hasKey, busy)}
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

function revocable(hasKey: boolean, generating: boolean): string {
  if (generating) return "A key can be revoked once the new one is shown.";
  return hasKey ? "The current key stops working at once." : "This system has no key to revoke.";
}
