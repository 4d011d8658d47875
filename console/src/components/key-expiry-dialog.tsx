import {
  type EnforcementPartsFragment,
  type KeyRole,
  SetKeyExpiryDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import {
  CUSTOM,
  chosenEnd,
  DEFAULT_EXPIRY,
  DEFAULT_EXTENSION,
  type EndChoice,
  EXPIRIES,
  EXTENSIONS,
  INCOMPLETE_END,
} from "../text/ends";
import { toLocalInput } from "../text/time";
import { ConfirmDialog } from "./confirm-dialog";
import { EndField } from "./end-field";
import { EndText } from "./end-text";
import { KeyMark } from "./key-mark";
import { Name } from "./name";

interface KeyExpiryDialogProps {
  system: SystemPartsFragment;
  /** The retiring key must have an end, the current one may have. */
  keyRole: KeyRole;
  onChanged: (expiresAt: string | null, enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function KeyExpiryDialog({ system, keyRole, onChanged, onCancel }: KeyExpiryDialogProps) {
  const client = useClient();
  const retires = keyRole === "RETIRING";
  const key = retires ? system.retiringKey : system.currentKey;
  const [choice, setChoice] = useState(() => initialChoice(retires, key?.expiresAt));
  const confirm = async () => {
    const end = chosenEnd(choice, new Date());
    if (end === undefined) return INCOMPLETE_END;
    const expiresAt = end === null ? null : end.toISOString();
    const variables = { systemId: system.id, role: keyRole, expiresAt };
    const { data, error } = await client.mutation(SetKeyExpiryDocument, variables);
    if (data) onChanged(expiresAt, data.setKeyExpiry.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title={retires ? "Extend Rotation" : "Change Expiry"}
      effect={retires ? "change when the old key ends" : "change when the key expires"}
      tone="primary"
      waitingFor="Waiting until every instance keeps to the new end…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <dl class="change">
        <dt>
          {retires ? "The old key" : "The key"} <KeyMark mark={key?.mark ?? null} /> of{" "}
          <Name>{system.name}</Name> {retires ? "ends" : "expires"}
        </dt>
        <dd>
          <EndText time={key?.expiresAt ?? null} />
        </dd>
      </dl>
      <EndField
        label={retires ? "It should end" : "It should expire after"}
        presets={retires ? EXTENSIONS : EXPIRIES}
        choice={choice}
        onChoose={setChoice}
      />
    </ConfirmDialog>
  );
}

function initialChoice(retires: boolean, expiresAt: string | null | undefined): EndChoice {
  if (retires) return DEFAULT_EXTENSION;
  return expiresAt ? { preset: CUSTOM, local: toLocalInput(expiresAt) } : DEFAULT_EXPIRY;
}
