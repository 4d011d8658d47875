import type { SystemPartsFragment } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { type NewKey, rotateKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import {
  chosenEnd,
  chosenSeconds,
  DEFAULT_OVERLAP,
  EXPIRIES,
  INCOMPLETE_END,
  NO_EXPIRY,
  OVERLAPS,
} from "../text/ends";
import { ConfirmDialog } from "./confirm-dialog";
import { EndField } from "./end-field";
import { KeyMark } from "./key-mark";
import { Name } from "./name";

interface RotateKeyDialogProps {
  system: SystemPartsFragment;
  onRotated: (newKey: NewKey) => void;
  onCancel: () => void;
}

/** Asks how long the current key goes on, and when the new one expires. */
export function RotateKeyDialog({ system, onRotated, onCancel }: RotateKeyDialogProps) {
  const client = useClient();
  const [overlap, setOverlap] = useState(DEFAULT_OVERLAP);
  const [expiry, setExpiry] = useState(NO_EXPIRY);
  const [rotating, setRotating] = useState(false);
  // Only the response to this request contains the key, so leaving the page now would lose it.
  useLeaveGuard(
    rotating
      ? "The new API key is being generated and is shown only once. Leave without it?"
      : undefined,
  );
  const confirm = async () => {
    const now = new Date();
    const overlapSeconds = chosenSeconds(overlap, now);
    const end = chosenEnd(expiry, now);
    if (overlapSeconds === undefined || end === undefined) return INCOMPLETE_END;
    setRotating(true);
    const expiresAt = end === null ? {} : { expiresAt: end.toISOString() };
    const result = await rotateKey(client, { systemId: system.id, overlapSeconds, ...expiresAt });
    setRotating(false);
    if ("error" in result) return result.error;
    onRotated(result.newKey);
    return undefined;
  };
  return (
    <ConfirmDialog
      title="Rotate Key"
      effect="generate a new key"
      tone="primary"
      waitingFor="Waiting until every instance accepts the new key…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        gets a new key, shown once. The current key <KeyMark mark={system.keyMark} /> goes on for
        the time that you choose here, so that the application can change over without an outage.
      </p>
      <EndField
        label="The current key is accepted for another"
        presets={OVERLAPS}
        choice={overlap}
        onChoose={setOverlap}
      />
      <EndField
        label="The new key expires after"
        presets={EXPIRIES}
        choice={expiry}
        onChoose={setExpiry}
      />
    </ConfirmDialog>
  );
}
