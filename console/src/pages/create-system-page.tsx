import { useClient } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { Field } from "../components/field";
import { MissingPermission } from "../components/missing-permission";
import { PageHeading } from "../components/page-heading";
import { CreateSystemDocument } from "../gql/graphql";
import { Link, navigate } from "../router";
import { SYSTEMS, systemAddress } from "../routes";
import { useMay } from "../session/viewer-context";
import { failureOf } from "../text/failures";

const ADVICE =
  "3 to 64 characters. Name the application and where it runs, such as “Billing (staging)”, rather than “app1”, “api” or “system”.";

export function CreateSystemPage() {
  return (
    <>
      <PageHeading title="Create System" trail={[]} />
      {useMay("create") ? <CreateSystemForm /> : <MissingPermission action="create" />}
    </>
  );
}

function CreateSystemForm() {
  const client = useClient();
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setFailed(undefined);
    const { data, error } = await client.mutation(CreateSystemDocument, { name });
    setBusy(false);
    if (data) navigate(systemAddress(data.createSystem.system.id), { replace: true });
    else if (error !== undefined) setFailed(failureOf(error).words);
  };
  return (
    <form onSubmit={submit}>
      <Field
        label="System Name"
        value={name}
        onInput={setName}
        autoComplete="off"
        hint={ADVICE}
        error={failed}
        autoFocus
      />
      <div class="actions">
        <Link to={SYSTEMS} class="button">
          Cancel
        </Link>
        <button type="submit" class="primary" disabled={busy}>
          Submit
        </button>
      </div>
    </form>
  );
}
