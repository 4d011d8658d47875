import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { PageHeading } from "../components/page-heading";
import { SystemNameForm } from "../components/system-name-form";
import { CreateSystemDocument } from "../gql/graphql";
import { navigate } from "../router";
import { SYSTEMS, systemPath } from "../routes";
import { useSession } from "../session/session-context";
import { useMay } from "../session/viewer-context";
import { failureOf } from "../text/failures";

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
  const submit = async () => {
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
    <>
      <p class="advice">
        A system is an application that calls your API with an API key of its own. Create a separate
        system for each application: then you can tell their calls apart, and revoke the key of one
        without stopping the others. You generate the key on the next page.
      </p>
      <SystemNameForm
        name={name}
        onInput={setName}
        error={errorMessage}
        cancelTo={SYSTEMS}
        submitLabel="Submit"
        busy={busy}
        onSubmit={submit}
      />
    </>
  );
}
