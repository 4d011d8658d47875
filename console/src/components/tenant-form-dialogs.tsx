import {
  CreateTenantDocument,
  type EnforcementPartsFragment,
  RenameTenantDocument,
  SetTenantPolicyDocument,
  type TenantPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import {
  MAX_IDLE_MINUTES,
  MAX_KEY_LIFETIME_DAYS,
  MIN_IDLE_MINUTES,
  readLimit,
  suggestedId,
} from "../text/tenants";
import { Field } from "./field";
import { FormDialog } from "./form-dialog";
import { Name } from "./name";
import { NumberField } from "./number-field";

const WAITING = "Waiting until every instance applies the change…";

export interface ChangedTenant {
  tenant: TenantPartsFragment;
  enforcement: EnforcementPartsFragment;
}

interface DialogProps {
  onDone: (changed: ChangedTenant) => void;
  onCancel: () => void;
}

export function CreateTenantDialog({ onDone, onCancel }: DialogProps) {
  const client = useClient();
  const [name, setName] = useState("");
  /** Undefined while it follows the name. */
  const [typedId, setTypedId] = useState<string>();
  const [error, setError] = useState<{ field: "name" | "id"; message: string }>();
  const id = typedId ?? suggestedId(name);
  const submit = async () => {
    setError(undefined);
    const { data, error } = await client.mutation(CreateTenantDocument, { id, name });
    if (data) onDone(data.createTenant);
    if (error === undefined) return undefined;
    const { code, message } = failureOf(error, "other");
    if (code === "INVALID_NAME") setError({ field: "name", message });
    else if (code === "NAME_TAKEN" || code === "BAD_USER_INPUT") setError({ field: "id", message });
    else return message;
    return undefined;
  };
  const errorAt = (field: "name" | "id") => (error?.field === field ? error.message : undefined);
  return (
    <FormDialog
      title="Create Tenant"
      submitLabel="Create"
      waitingFor={WAITING}
      onSubmit={submit}
      onCancel={onCancel}
    >
      <Field
        label="Name"
        value={name}
        onInput={setName}
        autoComplete="off"
        hint="Shown to people. It can be changed."
        error={errorAt("name")}
        autoFocus
      />
      <Field
        label="ID"
        value={id}
        onInput={setTypedId}
        autoComplete="off"
        hint="For addresses and programs. It never changes: a-z, 0-9, - and _, at most 63."
        error={errorAt("id")}
      />
    </FormDialog>
  );
}

interface ChangeDialogProps extends DialogProps {
  tenant: TenantPartsFragment;
}

export function RenameTenantDialog({ tenant, onDone, onCancel }: ChangeDialogProps) {
  const client = useClient();
  const [name, setName] = useState(tenant.name);
  const [nameError, setNameError] = useState<string>();
  const submit = async () => {
    setNameError(undefined);
    const { data, error } = await client.mutation(RenameTenantDocument, { id: tenant.id, name });
    if (data) onDone(data.renameTenant);
    if (error === undefined) return undefined;
    const { code, message } = failureOf(error, "other");
    if (code !== "INVALID_NAME") return message;
    setNameError(message);
    return undefined;
  };
  return (
    <FormDialog
      title="Rename Tenant"
      submitLabel="Rename"
      waitingFor={WAITING}
      onSubmit={submit}
      onCancel={onCancel}
    >
      <Field
        label="Name"
        value={name}
        onInput={setName}
        autoComplete="off"
        hint={`The id stays ${tenant.id}.`}
        error={nameError}
        autoFocus
      />
    </FormDialog>
  );
}

export function TenantPolicyDialog({ tenant, onDone, onCancel }: ChangeDialogProps) {
  const client = useClient();
  const { maxKeyLifetimeDays, sessionIdleMinutes } = tenant.policy;
  const [days, setDays] = useState(String(maxKeyLifetimeDays ?? ""));
  const [minutes, setMinutes] = useState(String(sessionIdleMinutes ?? ""));
  const [error, setError] = useState<{ field: "days" | "minutes"; message: string }>();
  const submit = async () => {
    setError(undefined);
    const maxKeyLifetimeDays = readLimit(days, 1, MAX_KEY_LIFETIME_DAYS);
    const sessionIdleMinutes = readLimit(minutes, MIN_IDLE_MINUTES, MAX_IDLE_MINUTES);
    if (maxKeyLifetimeDays === undefined) {
      setError({ field: "days", message: "Enter 1 to 3,650 days, or nothing." });
      return undefined;
    }
    if (sessionIdleMinutes === undefined) {
      setError({ field: "minutes", message: "Enter 2 to 43,200 minutes, or nothing." });
      return undefined;
    }
    const variables = { id: tenant.id, maxKeyLifetimeDays, sessionIdleMinutes };
    const { data, error } = await client.mutation(SetTenantPolicyDocument, variables);
    if (data) onDone(data.setTenantPolicy);
    return error && failureOf(error, "other").message;
  };
  const errorAt = (field: "days" | "minutes") =>
    error?.field === field ? error.message : undefined;
  return (
    <FormDialog
      title="Change Policy"
      submitLabel="Save"
      waitingFor={WAITING}
      onSubmit={submit}
      onCancel={onCancel}
    >
      <p>
        The rules of <Name>{tenant.name}</Name>. Keys that exist keep their end.
      </p>
      <NumberField
        label="Longest life of a new key, in days"
        value={days}
        onInput={setDays}
        hint="Without a number, a key needs no end."
        error={errorAt("days")}
      />
      <NumberField
        label="Longest idle time of a session, in minutes"
        value={minutes}
        onInput={setMinutes}
        hint="Without a number, the setting of the server applies. It also applies if it is shorter."
        error={errorAt("minutes")}
      />
    </FormDialog>
  );
}
