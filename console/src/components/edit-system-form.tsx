import { useState } from "preact/hooks";
import type { SystemPartsFragment } from "../gql/graphql";
import { navigate } from "../router";
import { systemPath } from "../routes";
import { Name } from "./name";
import { RenameDialog } from "./rename-dialog";
import { SystemNameForm } from "./system-name-form";

/**
 * Renames a system. A rename by another operator in the meantime is shown; it is not overwritten without asking, and
 * does not replace what is typed here.
 */
export function EditSystemForm({ system }: { system: SystemPartsFragment }) {
  /** The name that is being edited. */
  const [baseName, setBaseName] = useState(system.name);
  const [name, setName] = useState(system.name);
  const [errorMessage, setErrorMessage] = useState<string>();
  /** The name to confirm. */
  const [newName, setNewName] = useState<string>();
  // While the dialog is open, it shows what another operator changed.
  const renamedByOther = system.name !== baseName && newName === undefined;

  /** Continues from the current name with `value` as the input. */
  const rebase = (value: string) => {
    setBaseName(system.name);
    setName(value);
    setErrorMessage(undefined);
  };
  const submit = () => {
    const trimmed = name.trim();
    if (trimmed === system.name) {
      setErrorMessage("This is already the system's name. Enter a different one.");
      return;
    }
    setErrorMessage(undefined);
    setNewName(trimmed);
  };
  const onRenamed = () => {
    const notice = (
      <>
        The system was renamed to <Name>{newName ?? name}</Name>.
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
      {newName !== undefined && (
        <RenameDialog
          system={system}
          editedName={baseName}
          newName={newName}
          onRenamed={onRenamed}
          onRefused={(message) => {
            setNewName(undefined);
            setErrorMessage(message);
          }}
          onCancel={() => setNewName(undefined)}
        />
      )}
    </>
  );
}
