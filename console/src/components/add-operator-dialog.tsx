import { AddOperatorDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { receiveSecret } from "../graph/secrets";
import { useLeaveGuard } from "../router";
import { useViewer } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { permissionCodes } from "../text/permissions";
import { CheckField } from "./check-field";
import { CodesField } from "./codes-field";
import { Field } from "./field";
import { FormDialog } from "./form-dialog";
import type { NewPassword } from "./new-password-dialog";

interface AddOperatorDialogProps {
  onAdded: (newPassword: NewPassword) => void;
  onCancel: () => void;
}

export function AddOperatorDialog({ onAdded, onCancel }: AddOperatorDialogProps) {
  const client = useClient();
  const viewer = useViewer();
  const [username, setUsername] = useState("");
  const [isPlatform, setIsPlatform] = useState(false);
  const [codes, setCodes] = useState<readonly string[]>([]);
  const [usernameError, setUsernameError] = useState<string>();
  const [adding, setAdding] = useState(false);
  // Only the response to this request contains the password, so leaving the page now would lose it.
  useLeaveGuard(
    adding ? "The operator's password is shown only once. Leave without it?" : undefined,
  );
  const submit = async () => {
    setUsernameError(undefined);
    setAdding(true);
    const possible = permissionCodes(isPlatform).map(({ code }) => code);
    const permissions = codes.filter((code) => possible.includes(code));
    const result = await receiveSecret((receiver) =>
      client.mutation(AddOperatorDocument, { username, permissions, isPlatform }, receiver),
    );
    setAdding(false);
    if ("error" in result) {
      const { code, message } = failureOf(result.error, "other");
      if (code === undefined || !ABOUT_USERNAMES.includes(code)) return message;
      setUsernameError(message);
      return undefined;
    }
    const { enforcement, operator } = result.data.addOperator;
    onAdded({
      password: result.secret,
      username: operator.username,
      isReset: false,
      enforcement,
    });
    return undefined;
  };
  return (
    <FormDialog
      title="Add Operator"
      submitLabel="Add"
      waitingFor="Adding the operator…"
      onSubmit={submit}
      onCancel={onCancel}
    >
      <Field
        label="Username"
        value={username}
        onInput={setUsername}
        autoComplete="off"
        hint="They sign in with it. It cannot be changed later."
        error={usernameError}
        autoFocus
      />
      {viewer.isPlatform && (
        <CheckField
          label="Operator of the platform"
          hint="Their codes hold in every tenant."
          checked={isPlatform}
          onCheck={setIsPlatform}
        />
      )}
      <CodesField codes={codes} isPlatform={isPlatform} onChoose={setCodes} />
    </FormDialog>
  );
}

const ABOUT_USERNAMES: readonly string[] = ["INVALID_NAME", "NAME_TAKEN", "BAD_USER_INPUT"];
