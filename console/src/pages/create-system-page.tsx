import { CreateSystemDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { PageHeading } from "../components/page-heading";
import { SystemForm, type SystemTexts } from "../components/system-form";
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
  const [texts, setTexts] = useState<SystemTexts>({ name: "", description: "", externalId: "" });
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<{ field: keyof SystemTexts; message: string }>();
  const submit = async () => {
    setBusy(true);
    setError(undefined);
    const { name, description } = texts;
    const variables = { name, ...(description.trim() === "" ? {} : { description }) };
    const { data, error: failed } = await client.mutation(CreateSystemDocument, variables);
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
    } else if (failed !== undefined) {
      const { code, message } = failureOf(failed);
      setError({ field: code === "BAD_USER_INPUT" ? "description" : "name", message });
    }
  };
  return (
    <>
      <p class="advice">
        A system is an application that calls your API with an API key of its own. Create a separate
        system for each application: then you can tell their calls apart, and revoke the key of one
        without stopping the others. You generate the key on the next page.
      </p>
      <SystemForm
        texts={texts}
        onInput={setTexts}
        error={error}
        cancelTo={SYSTEMS}
        submitLabel="Submit"
        busy={busy}
        onSubmit={submit}
      />
    </>
  );
}
