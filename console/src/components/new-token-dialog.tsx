import type { EnforcementPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { exactTime } from "../text/time";
import { tokenRequest } from "../text/token-request";
import { EnforcementStatus } from "./enforcement-status";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { ShownOnceDialog } from "./shown-once-dialog";

/** A token in full. Only the dialog that shows it may hold one. */
export interface NewToken {
  token: string;
  kind: "service" | "verifier";
  name: string;
  mark: string;
  isPlatform: boolean;
  expiresAt: string | null;
  /** When the token before ends; null if it has ended already, undefined if there is none. */
  formerEndsAt: Date | null | undefined;
  enforcement: EnforcementPartsFragment;
}

interface NewTokenDialogProps {
  newToken: NewToken;
  onClose: () => void;
}

/** Shows a token in full, once, with what uses it. */
export function NewTokenDialog({ newToken, onClose }: NewTokenDialogProps) {
  const { token, kind, name, mark, isPlatform, expiresAt, formerEndsAt, enforcement } = newToken;
  const noun = kind === "service" ? "Service Token" : "Verifier Token";
  return (
    <ShownOnceDialog
      title={`${noun} ${formerEndsAt === undefined ? "Created" : "Rotated"}`}
      noun="token"
      label={noun}
      secret={token}
      ifLost={
        kind === "service"
          ? "If it is lost, rotate it with no overlap."
          : "If it is lost, revoke it and create another one."
      }
      advice={kind === "service" ? KEEPING : VERIFYING}
      {...(kind === "service" && {
        request: {
          text: tokenRequest(location.origin, token),
          advice: isPlatform ? (
            <>
              The header <code>X-Keymark-Tenant</code> names the tenant to act in.
            </>
          ) : (
            "Responds with the name and the codes of the token."
          ),
        },
      })}
      onClose={onClose}
    >
      <p>
        <strong>
          <Name>{name}</Name>
        </strong>
        , mark: <KeyMark mark={mark} />
        <br />
        <span class="quiet">
          <EnforcementStatus verdict="accepted" enforcement={enforcement} />{" "}
          {expiresAt === null ? "Never expires." : `Expires on ${exactTime(new Date(expiresAt))}.`}
        </span>
      </p>
      {formerEndsAt !== undefined && (
        <p>
          {formerEndsAt === null
            ? "The old token is refused already."
            : `The old token goes on until ${exactTime(formerEndsAt)}. Change over to the new one before.`}
        </p>
      )}
    </ShownOnceDialog>
  );
}

const KEEPING =
  "Store it in your backend's secrets manager or in an environment variable. Never hard-code it or commit it to a repository.";

const VERIFYING: ComponentChildren = (
  <>
    Gateways and services send it to the verification listener in the header{" "}
    <code>X-Keymark-Verifier-Token</code>; <code>/v1/verify</code> and <code>/metrics</code> accept
    it in <code>Authorization</code> after <code>Bearer</code> too.
  </>
);
