import {
  type EnforcementPartsFragment,
  ResumeSystemDocument,
  SuspendSystemDocument,
  type SystemPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { ConfirmDialog } from "./confirm-dialog";
import { Name } from "./name";
import { given, ReasonField } from "./reason-field";

interface SuspensionDialogProps {
  system: SystemPartsFragment;
  onDone: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function SuspendDialog({ system, onDone, onCancel }: SuspensionDialogProps) {
  const client = useClient();
  const [reason, setReason] = useState("");
  const confirm = async () => {
    const variables = { id: system.id, ...given(reason) };
    const { data, error } = await client.mutation(SuspendSystemDocument, variables);
    if (data) onDone(data.suspendSystem.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Suspend"
      effect="suspend the system"
      waitingFor="Waiting until every instance refuses its keys…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        All keys of{" "}
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        will be refused until you resume it. The system keeps its name and its keys.
      </p>
      <p class="quiet">
        The step before deleting: if nothing breaks while the system is suspended, nothing uses it.
      </p>
      <ReasonField value={reason} onInput={setReason} />
    </ConfirmDialog>
  );
}

export function ResumeDialog({ system, onDone, onCancel }: SuspensionDialogProps) {
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(ResumeSystemDocument, { id: system.id });
    if (data) onDone(data.resumeSystem.enforcement);
    return error;
  };
  return (
    <ConfirmDialog
      title="Resume"
      effect="resume the system"
      tone="primary"
      waitingFor="Waiting until every instance accepts its keys…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        The keys of{" "}
        <strong>
          <Name>{system.name}</Name>
        </strong>{" "}
        will be accepted again.
      </p>
    </ConfirmDialog>
  );
}
