import {
  type EnforcementPartsFragment,
  type OperatorPartsFragment,
  RemoveOperatorDocument,
  ResumeOperatorDocument,
  SuspendOperatorDocument,
} from "@keymark/client/documents";
import type { Client, CombinedError } from "@urql/core";
import { useClient } from "@urql/preact";
import { useViewer } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";
import { GeneratedKeys } from "./generated-keys";
import { Name } from "./name";

export type OperatorAction = "suspend" | "resume" | "remove";

interface Response {
  enforcement: EnforcementPartsFragment | undefined;
  error: CombinedError | undefined;
}

interface Text {
  title: string;
  effect: string;
  waitingFor: string;
  /** Follows the username. */
  consequence: string;
  request: (client: Client, id: string) => Promise<Response>;
}

const ACTIONS: Record<OperatorAction, Text> = {
  suspend: {
    title: "Suspend Operator",
    effect: "suspend the operator",
    waitingFor: "Waiting until every instance has ended the sessions…",
    consequence:
      "cannot sign in until you resume them, and all their sessions end. They keep their codes and their password.",
    async request(client, id) {
      const { data, error } = await client.mutation(SuspendOperatorDocument, { id });
      return { enforcement: data?.suspendOperator.enforcement, error };
    },
  },
  resume: {
    title: "Resume Operator",
    effect: "resume the operator",
    waitingFor: "Waiting until every instance applies the change…",
    consequence: "can sign in again, with the same codes and the same password.",
    async request(client, id) {
      const { data, error } = await client.mutation(ResumeOperatorDocument, { id });
      return { enforcement: data?.resumeOperator.enforcement, error };
    },
  },
  remove: {
    title: "Remove Operator",
    effect: "remove the operator",
    waitingFor: "Waiting until every instance has ended the sessions…",
    consequence:
      "is removed permanently, and all their sessions end. The audit log keeps their name.",
    async request(client, id) {
      const { data, error } = await client.mutation(RemoveOperatorDocument, { id });
      return { enforcement: data?.removeOperator.enforcement, error };
    },
  },
};

interface OperatorDialogProps {
  action: OperatorAction;
  operator: OperatorPartsFragment;
  onDone: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

/** Confirms that an operator is suspended, resumed or removed. */
export function OperatorDialog({ action, operator, onDone, onCancel }: OperatorDialogProps) {
  const client = useClient();
  const viewer = useViewer();
  const { title, effect, waitingFor, consequence, request } = ACTIONS[action];
  const confirm = async () => {
    const { enforcement, error } = await request(client, operator.id);
    if (enforcement) onDone(enforcement);
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title={title}
      effect={effect}
      tone={action === "resume" ? "primary" : "danger"}
      waitingFor={waitingFor}
      onConfirm={confirm}
      onCancel={onCancel}
    >
      <p>
        <strong>
          <Name>{operator.username}</Name>
        </strong>{" "}
        {consequence}
      </p>
      {operator.id === viewer.id && <p class="warning">This is you: you will be signed out.</p>}
      {action === "remove" && <GeneratedKeys operator={operator} isWarning />}
    </ConfirmDialog>
  );
}
