import { useState } from "preact/hooks";
import type { SystemPartsFragment } from "../gql/graphql";
import { navigate } from "../router";
import { systemPath } from "../routes";
import { Name } from "./name";
import { type Rename, RenameDialog } from "./rename-dialog";
import { SystemNameForm } from "./system-name-form";

/**
 * Renames a system. A rename by another operator in the meantime is shown; it is not overwritten without asking, and
 * does not replace what is typed here.
 */
export function EditSystemForm({ system }: { system: SystemPartsFragment }) {
  const [base, setBase] = useState({ name: system.name, revision: system.revision });
  const [name, setName] = useState(system.name);
  const [errorMessage, setErrorMessage] = useState<string>();
  const [rename, setRename] = useState<Rename>();
  // While the dialog is open the server detects the conflict: it rejects a rename of an older revision.
  const renamedByOther = system.name !== base.name && rename === undefined;
  // A new revision with the same name is a change of the key, which does not conflict with a rename.
  if (system.name === base.name && system.revision !== base.revision) {
    setBase({ name: system.name, revision: system.revision });
  }

  /** Continues from the current revision with `value` as the input. */
  const rebase = (value: string) => {
    setBase({ name: system.name, revision: system.revision });
    setName(value);
    setErrorMessage(undefined);
  };
  const submit = () => {
    const newName = name.trim();
    if (newName === base.name) {
      setErrorMessage("This is already the system's name. Enter a different one.");
      return;
    }
    setErrorMessage(undefined);
    const { name: oldName, revision: expectedRevision } = base;
    setRename({ id: system.id, oldName, newName, expectedRevision });
  };
  const onRenamed = () => {
    const notice = (
      <>
        The system was renamed to <Name>{rename?.newName ?? name}</Name>.
      </>
    );
    navigate(systemPath(system.id), { replace: true, notice });
  };

  return (
    <>
      <SystemNameForm
        name={name}
        onInput={setName}
        error={errorMessage}
        cancelTo={systemPath(system.id)}
        submitLabel="Save"
        onSubmit={submit}
      />
      {/* Below the form, so that its appearance does not move a button that is about to be clicked. */}
      <div role="alert" class={renamedByOther ? "warning conflict" : undefined}>
        {renamedByOther && (
          <>
            <p>
              Another operator changed the name to “<Name>{system.name}</Name>” in the meantime.
            </p>
            <div class="actions">
              <button type="button" onClick={() => rebase(system.name)}>
                Take their name
              </button>
              <button type="button" onClick={() => rebase(name)}>
                Keep what I typed
              </button>
            </div>
          </>
        )}
      </div>
      {rename && (
        <RenameDialog
          rename={rename}
          onRenamed={onRenamed}
          onRefused={(message) => {
            setRename(undefined);
            setErrorMessage(message);
          }}
          onCancel={() => setRename(undefined)}
        />
      )}
    </>
  );
}
