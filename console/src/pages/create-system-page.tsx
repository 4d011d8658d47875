import { useClient } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { Field } from "../components/field";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { PageHeading } from "../components/page-heading";
import { CreateSystemDocument } from "../gql/graphql";
import { Link, navigate } from "../router";
import { SYSTEMS, systemPath } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { NAMING_ADVICE } from "../text/naming-advice";

export function CreateSystemPage() {
  const mayCreate = useMay("create");
  return (
    <>
      <PageHeading title="Create System" trail={[]} focus={!mayCreate} />
      {mayCreate ? <CreateSystemForm /> : <MissingPermission action="create" />}
    </>
  );
}

function CreateSystemForm() {
  const client = useClient();
  const { createdSystemIds } = useSession();
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setErrorMessage(undefined);
    const { data, error } = await client.mutation(CreateSystemDocument, { name });
    setBusy(false);
    if (data) {
      const { system } = data.createSystem;
      createdSystemIds.add(system.id);
      const notice = (
        <>
          <Name>{system.name}</Name> was created.
        </>
      );
      navigate(systemPath(system.id), { replace: true, notice });
    } else if (error !== undefined) setErrorMessage(failureOf(error).message);
  };
  return (
    <form onSubmit={submit} noValidate>
      <Field
        label="System Name"
        value={name}
        onInput={setName}
        autoComplete="off"
        hint={NAMING_ADVICE}
        error={errorMessage}
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
