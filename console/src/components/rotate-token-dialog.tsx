import {
  RotateServiceTokenDocument,
  type ServiceTokenPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { receiveSecret } from "../graph/secrets";
import { useLeaveGuard } from "../router";
import {
  chosenEnd,
  chosenSeconds,
  DEFAULT_EXPIRY,
  DEFAULT_OVERLAP,
  EXPIRIES,
  INCOMPLETE_END,
  NO_EXPIRY,
  OVERLAPS,
} from "../text/ends";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { EndField } from "./end-field";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import type { NewToken } from "./new-token-dialog";

interface RotateTokenDialogProps {
  token: ServiceTokenPartsFragment;
  onRotated: (newToken: NewToken) => void;
  onCancel: () => void;
}

/** Asks how long the current token goes on, and when the new one expires. */
export function RotateTokenDialog({ token, onRotated, onCancel }: RotateTokenDialogProps) {
  const client = useClient();
  const [overlap, setOverlap] = useState(DEFAULT_OVERLAP);
  const [expiry, setExpiry] = useState(token.expiresAt === null ? NO_EXPIRY : DEFAULT_EXPIRY);
  const [rotating, setRotating] = useState(false);
  // Only the response to this request contains the token, so leaving the page now would lose it.
  useLeaveGuard(rotating ? "The new token is shown only once. Leave without it?" : undefined);
  const confirm = async () => {
    const now = new Date();
    const overlapSeconds = chosenSeconds(overlap, now);
    const end = chosenEnd(expiry, now);
    if (overlapSeconds === undefined || end === undefined) return INCOMPLETE_END;
    const expiresAt = end?.toISOString() ?? null;
    setRotating(true);
    const result = await receiveSecret((receiver) =>
      client.mutation(
        RotateServiceTokenDocument,
        { id: token.id, overlapSeconds, expiresAt },
        receiver,
      ),
    );
    setRotating(false);
    if ("error" in result) {
      const { code, message } = failureOf(result.error, "other");
      return code === "ROTATION_IN_PROGRESS" ? IN_PROGRESS : message;
    }
    const { serviceToken, enforcement } = result.data.rotateServiceToken;
    onRotated({
      token: result.secret,
      kind: "service",
      name: serviceToken.name,
      mark: serviceToken.mark,
      isPlatform: serviceToken.isPlatform,
      expiresAt: serviceToken.expiresAt,
      formerEndsAt: formerEnd(token, overlapSeconds, now),
      enforcement,
    });
    return undefined;
  };
  return (
    <ConfirmDialog
      title="Rotate Token"
      effect="generate a new token"
      tone="primary"
      waitingFor="Waiting until every instance accepts the new token…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{token.name}</Name>
        </strong>{" "}
        is replaced by a new token with the same codes, shown once. The current one,{" "}
        <KeyMark mark={token.mark} />, goes on for the time that you choose here, but no longer than
        to its own expiry.
      </p>
      <EndField
        label="The current token is accepted for another"
        presets={OVERLAPS}
        choice={overlap}
        onChoose={setOverlap}
      />
      <EndField
        label="The new token expires after"
        presets={EXPIRIES}
        choice={expiry}
        onChoose={setExpiry}
      />
    </ConfirmDialog>
  );
}

const IN_PROGRESS =
  "The token before the current one is still accepted. Wait until it ends, or rotate with “Not at all”.";

/** Returns when the current token ends after a rotation; null if it has ended. */
function formerEnd(
  { expiresAt }: ServiceTokenPartsFragment,
  overlapSeconds: number,
  now: Date,
): Date | null {
  if (overlapSeconds === 0) return null;
  const end = new Date(now.getTime() + overlapSeconds * 1_000);
  const expiry = expiresAt === null ? end : new Date(expiresAt);
  return expiry < end ? expiry : end;
}
