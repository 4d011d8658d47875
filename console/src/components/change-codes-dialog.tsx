import {
  type EnforcementPartsFragment,
  type OperatorPartsFragment,
  SetOperatorPermissionsDocument,
} from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { CodesField } from "./codes-field";
import { FormDialog } from "./form-dialog";
import { Name } from "./name";

interface ChangeCodesDialogProps {
  /** The operator as they were when the dialog was opened. */
  operator: OperatorPartsFragment;
  onChanged: (enforcement: EnforcementPartsFragment) => void;
  onCancel: () => void;
}

export function ChangeCodesDialog({ operator, onChanged, onCancel }: ChangeCodesDialogProps) {
  const client = useClient();
  const [codes, setCodes] = useState<string[]>(operator.permissions);
  const submit = async () => {
    const variables = { id: operator.id, permissions: codes };
    const { data, error } = await client.mutation(SetOperatorPermissionsDocument, variables);
    if (data) onChanged(data.setOperatorPermissions.enforcement);
    return error && failureOf(error, "other").message;
  };
  return (
    <FormDialog
      title="Change Codes"
      submitLabel="Save"
      waitingFor="Waiting until every instance applies the change…"
      onSubmit={submit}
      onCancel={onCancel}
    >
      <p>
        What{" "}
        <strong>
          <Name>{operator.username}</Name>
        </strong>{" "}
        may do. A code that is taken away counts immediately, also for what they have open.
      </p>
      <CodesField
        codes={codes}
        held={operator.permissions}
        isPlatform={operator.isPlatform}
        onChoose={setCodes}
      />
    </FormDialog>
  );
}
