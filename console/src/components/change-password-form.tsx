import { retryNow } from "@keymark/client";
import { ChangePasswordDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { ComponentChildren, TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { UNKEPT } from "../graph/secrets";
import { useSession } from "../session/session-context";
import { failureOf } from "../text/failures";
import { PASSWORD_RULE } from "../text/password-rule";
import { Field } from "./field";

interface ChangePasswordFormProps {
  /** Shown after the rule for passwords. */
  hint: string;
  onChanged: () => void;
  onBusy?: (busy: boolean) => void;
  /** The other button. */
  children: (busy: boolean) => ComponentChildren;
}

interface FieldError {
  field: "current" | "new" | "repeated";
  message: string;
}

/** The fields to change the password, with a button to do so beside another one. */
export function ChangePasswordForm(props: ChangePasswordFormProps) {
  const { hint, onChanged, onBusy, children } = props;
  const client = useClient();
  const { changingPassword } = useSession();
  const [currentPassword, setCurrentPassword] = useState("");
  const [newPassword, setNewPassword] = useState("");
  const [repeated, setRepeated] = useState("");
  const [busy, setBusyState] = useState(false);
  const setBusy = (value: boolean) => {
    setBusyState(value);
    onBusy?.(value);
  };
  const [fieldError, setFieldError] = useState<FieldError>();
  const errorAt = (field: FieldError["field"]) =>
    fieldError?.field === field ? fieldError.message : undefined;

  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (newPassword !== repeated) {
      setFieldError({
        field: "repeated",
        message: "The passwords do not match. Repeat the new password.",
      });
      return;
    }
    setBusy(true);
    setFieldError(undefined);
    // The response sets the cookie of a new session; the socket may report the end of the old one before that.
    changingPassword.update(() => true);
    const variables = { currentPassword, newPassword };
    const { error } = await client.mutation(ChangePasswordDocument, variables, UNKEPT);
    changingPassword.update(() => false);
    if (error === undefined) {
      retryNow();
      onChanged();
      return;
    }
    const { code, message } = failureOf(error);
    setBusy(false);
    setFieldError(
      code === "INVALID_CREDENTIALS"
        ? { field: "current", message: "The current password is incorrect." }
        : { field: code === "INVALID_PASSWORD" ? "new" : "current", message },
    );
  };

  return (
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
        hint={`${PASSWORD_RULE} ${hint}`}
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
        {children(busy)}
        <button type="submit" class="primary" disabled={busy}>
          Change password
        </button>
      </div>
    </form>
  );
}
