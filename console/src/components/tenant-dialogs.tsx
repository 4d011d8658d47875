import {
  DeleteTenantDocument,
  ResumeTenantDocument,
  SuspendTenantDocument,
  type TenantPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";
import type { ChangedTenant } from "./tenant-form-dialogs";

interface TenantDialogProps {
  tenant: TenantPartsFragment;
  onCancel: () => void;
}

interface ChangeDialogProps extends TenantDialogProps {
  onDone: (changed: ChangedTenant) => void;
}

export function SuspendTenantDialog({ tenant, onDone, onCancel }: ChangeDialogProps) {
  const client = useClient();
  const [reason, setReason] = useState("");
  const confirm = async () => {
    const variables = { id: tenant.id, ...given(reason) };
    const { data, error } = await client.mutation(SuspendTenantDocument, variables);
    if (data) onDone(data.suspendTenant);
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title="Suspend Tenant"
      effect="suspend the tenant"
      waitingFor="Waiting until every instance refuses its keys, sessions and tokens…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        All keys, sessions and tokens of{" "}
        <strong>
          <Name>{tenant.name}</Name>
        </strong>{" "}
        will be refused until you resume it, and its operators cannot sign in. Nothing is deleted.
      </p>
      <ReasonField value={reason} onInput={setReason} />
    </ConfirmDialog>
  );
}

export function ResumeTenantDialog({ tenant, onDone, onCancel }: ChangeDialogProps) {
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(ResumeTenantDocument, { id: tenant.id });
    if (data) onDone(data.resumeTenant);
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title="Resume Tenant"
      effect="resume the tenant"
      tone="primary"
      waitingFor="Waiting until every instance accepts its keys, sessions and tokens…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        The keys, sessions and tokens of{" "}
        <strong>
          <Name>{tenant.name}</Name>
        </strong>{" "}
        will be accepted again.
      </p>
    </ConfirmDialog>
  );
}

interface DeleteTenantDialogProps extends TenantDialogProps {
  onDeleted: () => void;
}

export function DeleteTenantDialog({ tenant, onDeleted, onCancel }: DeleteTenantDialogProps) {
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(DeleteTenantDocument, { id: tenant.id });
    if (data) onDeleted();
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title="Delete Tenant"
      effect="delete the tenant"
      waitingFor="Waiting until every instance refuses its sessions and tokens…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{tenant.name}</Name>
        </strong>{" "}
        will be removed with its operators and tokens. This cannot be undone. Its audit log stays,
        and a new tenant with the id {tenant.id} continues it.
      </p>
    </ConfirmDialog>
  );
}
