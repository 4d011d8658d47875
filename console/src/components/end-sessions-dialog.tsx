import {
  EndSessionsDocument,
  type EndSessionsMutationVariables,
  type EnforcementPartsFragment,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { failureOf } from "../text/failures";
import { ConfirmDialog } from "./confirm-dialog";

interface EndSessionsDialogProps {
  title: string;
  effect: string;
  variables: EndSessionsMutationVariables;
  children: ComponentChildren;
  onEnded: (ended: number, enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function EndSessionsDialog(props: EndSessionsDialogProps) {
  const { title, effect, variables, children, onEnded, onCancel } = props;
  const client = useClient();
  const confirm = async () => {
    const { data, error } = await client.mutation(EndSessionsDocument, variables);
    if (data) onEnded(data.endSessions.ended, data.endSessions.enforcement);
    return error && failureOf(error, "other").message;
  };
  return (
    <ConfirmDialog
      title={title}
      effect={effect}
      waitingFor="Waiting until every instance has ended the sessions…"
      onConfirm={confirm}
      onCancel={onCancel}
    >
      {children}
    </ConfirmDialog>
  );
}
