import { useClient } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { ChangePasswordDocument } from "../gql/graphql";
import { wake } from "../live/wake";
import { useSession } from "../session/session-context";
import { failureOf } from "../text/failures";
import { Dialog } from "./dialog";
import { Field } from "./field";

interface ChangePasswordDialogProps {
  onChanged: () => void;
  onCancel: () => void;
}

interface Failed {
  field: "current" | "new" | "repeated";
  words: string;
}

export function ChangePasswordDialog({ onChanged, onCancel }: ChangePasswordDialogProps) {
  const client = useClient();
  const { renewing } = useSession();
  const [currentPassword, setCurrentPassword] = useState("");
  const [newPassword, setNewPassword] = useState("");
  const [repeated, setRepeated] = useState("");
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<Failed>();
  const errorAt = (field: Failed["field"]) => (failed?.field === field ? failed.words : undefined);

  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (newPassword !== repeated) {
      setFailed({ field: "repeated", words: "This is not the same as the new password." });
      return;
    }
    setBusy(true);
    setFailed(undefined);
    // The answer brings a new session; the end of the old one may be heard of before.
    renewing.update(() => true);
    const { error } = await client.mutation(ChangePasswordDocument, {
      currentPassword,
      newPassword,
    });
    renewing.update(() => false);
    if (error === undefined) {
      wake();
      onChanged();
      return;
    }
    const { code, words } = failureOf(error);
    setBusy(false);
    setFailed(
      code === "INVALID_CREDENTIALS"
        ? { field: "current", words: "This is not your password." }
        : { field: code === "INVALID_PASSWORD" ? "new" : "current", words },
    );
  };

  return (
    <Dialog title="Change password" onEscape={busy ? undefined : onCancel}>
      <form onSubmit={submit}>
        <Field
          label="Current password"
          type="password"
          value={currentPassword}
          onInput={setCurrentPassword}
          autoComplete="current-password"
          error={errorAt("current")}
          autoFocus
        />
        <Field
          label="New password"
          type="password"
          value={newPassword}
          onInput={setNewPassword}
          autoComplete="new-password"
          hint="8 characters or more. Wherever else you are signed in, you will have to sign in again."
          error={errorAt("new")}
        />
        <Field
          label="New password, repeated"
          type="password"
          value={repeated}
          onInput={setRepeated}
          autoComplete="new-password"
          error={errorAt("repeated")}
        />
        <div class="actions">
          <button type="button" onClick={onCancel} disabled={busy}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={busy}>
            Change password
          </button>
        </div>
      </form>
    </Dialog>
  );
}
