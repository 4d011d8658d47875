import { useClient } from "@urql/preact";
import { useId, useState } from "preact/hooks";
import type { SystemPartsFragment } from "../gql/graphql";
import { generateKey, type NewKey } from "../graph/generate-key";
import { useMay } from "../session/viewer-context";
import { enforcementText } from "../text/enforcement";
import { failureOf } from "../text/failures";
import { RevokeKeyDialog } from "./revoke-key-dialog";

interface KeyActionsProps {
  system: SystemPartsFragment;
  onGenerated: (newKey: NewKey) => void;
  onRevoked: (words: string) => void;
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

  const generate = async () => {
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
            disabled={hasKey || busy}
            aria-describedby={`${id}-generate`}
            onClick={generate}
          >
            Generate API Key
          </button>
          <p id={`${id}-generate`} class="quiet">
            {hasKey
              ? "This system has a key. Revoke it to generate another."
              : "The new key is shown in full once."}
          </p>
        </div>
      )}
      {mayRevoke && (
        <div class="action">
          <button
            type="button"
            class="danger"
            disabled={!hasKey}
            aria-describedby={`${id}-revoke`}
            onClick={() => setRevoking(system)}
          >
            Revoke API Key
          </button>
          <p id={`${id}-revoke`} class="quiet">
            {hasKey
              ? "The current key stops working at once."
              : "This system has no key to revoke."}
          </p>
        </div>
      )}
      {mayRevoke && revoking && (
        <RevokeKeyDialog
          system={revoking}
          onCancel={() => setRevoking(undefined)}
          onRevoked={(enforcement) => {
            setRevoking(undefined);
            onRevoked(`The API key was revoked. ${enforcementText("Refused", enforcement)}`);
          }}
        />
      )}
    </>
  );
}
