import { CreateServiceTokenDocument, CreateVerifierTokenDocument } from "@keymark/client/documents";
import type { Client, CombinedError } from "@urql/core";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { receiveSecret } from "../graph/secrets";
import { useLeaveGuard } from "../router";
import { useViewer } from "../session/viewer-context";
import { chosenEnd, DEFAULT_EXPIRY, EXPIRIES, INCOMPLETE_END } from "../text/ends";
import { failureOf } from "../text/failures";
import { permissionCodes } from "../text/permissions";
import { CheckField } from "./check-field";
import { CodesField } from "./codes-field";
import { EndField } from "./end-field";
import { Field } from "./field";
import { FormDialog } from "./form-dialog";
import type { NewToken } from "./new-token-dialog";

interface CreateTokenDialogProps {
  kind: NewToken["kind"];
  onCreated: (newToken: NewToken) => void;
  onCancel: () => void;
}

/** Creates a service token or a verifier token. */
export function CreateTokenDialog({ kind, onCreated, onCancel }: CreateTokenDialogProps) {
  const client = useClient();
  const viewer = useViewer();
  const [name, setName] = useState("");
  const [isPlatform, setIsPlatform] = useState(false);
  const [codes, setCodes] = useState<readonly string[]>([]);
  const [expiry, setExpiry] = useState(DEFAULT_EXPIRY);
  const [nameError, setNameError] = useState<string>();
  const [creating, setCreating] = useState(false);
  const isService = kind === "service";
  // Only the response to this request contains the token, so leaving the page now would lose it.
  useLeaveGuard(creating ? "The new token is shown only once. Leave without it?" : undefined);
  const submit = async () => {
    setNameError(undefined);
    const end = chosenEnd(expiry, new Date());
    if (end === undefined) return INCOMPLETE_END;
    const possible = permissionCodes(isPlatform).map(({ code }) => code);
    const permissions = codes.filter((code) => possible.includes(code));
    const common = { name, isPlatform, expiresAt: end?.toISOString() ?? null };
    setCreating(true);
    const result = await (isService
      ? createServiceToken(client, { ...common, permissions })
      : createVerifierToken(client, common));
    setCreating(false);
    if (!("error" in result)) {
      onCreated(result);
      return undefined;
    }
    const { code, message } = failureOf(result.error, "other");
    if (code !== "INVALID_NAME" && code !== "NAME_TAKEN") return message;
    setNameError(message);
    return undefined;
  };
  return (
    <FormDialog
      title={isService ? "Create Service Token" : "Create Verifier Token"}
      submitLabel="Create"
      waitingFor="Waiting until every instance accepts the token…"
      onSubmit={submit}
      onCancel={onCancel}
    >
      <Field
        label="Name"
        value={name}
        onInput={setName}
        autoComplete="off"
        hint={
          isService
            ? "The backend that uses it. The audit log shows this name."
            : "The gateway or service that uses it."
        }
        error={nameError}
        autoFocus
      />
      {viewer.isPlatform && (
        <CheckField
          label={isService ? "Token of the platform" : "All tenants"}
          hint={
            isService
              ? "Its codes hold in every tenant."
              : "Verifies the keys of every tenant. Otherwise keys of other tenants are not found."
          }
          checked={isPlatform}
          onCheck={setIsPlatform}
        />
      )}
      <EndField
        label="The token expires after"
        presets={EXPIRIES}
        choice={expiry}
        onChoose={setExpiry}
      />
      {isService && <CodesField codes={codes} isPlatform={isPlatform} onChoose={setCodes} />}
    </FormDialog>
  );
}

interface Common {
  name: string;
  isPlatform: boolean;
  expiresAt: string | null;
}

type Created = NewToken | { error: CombinedError };

async function createServiceToken(
  client: Client,
  variables: Common & { permissions: string[] },
): Promise<Created> {
  const result = await receiveSecret((receiver) =>
    client.mutation(CreateServiceTokenDocument, variables, receiver),
  );
  if ("error" in result) return result;
  const { serviceToken, enforcement } = result.data.createServiceToken;
  const { name, mark, isPlatform, expiresAt } = serviceToken;
  const shown = { name, mark, isPlatform, expiresAt, enforcement, formerEndsAt: undefined };
  return { token: result.secret, kind: "service", ...shown };
}

async function createVerifierToken(client: Client, variables: Common): Promise<Created> {
  const result = await receiveSecret((receiver) =>
    client.mutation(CreateVerifierTokenDocument, variables, receiver),
  );
  if ("error" in result) return result;
  const { verifierToken, enforcement } = result.data.createVerifierToken;
  const { name, mark, expiresAt } = verifierToken;
  const { isPlatform } = variables;
  const shown = { name, mark, isPlatform, expiresAt, enforcement, formerEndsAt: undefined };
  return { token: result.secret, kind: "verifier", ...shown };
}
