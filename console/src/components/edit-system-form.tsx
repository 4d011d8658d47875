import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import type { SystemPartsFragment } from "../gql/graphql";
import { Link, navigate } from "../router";
import { systemAddress } from "../routes";
import { NAMING_ADVICE } from "../text/naming-advice";
import { Field } from "./field";
import { Name } from "./name";
import { type Rename, RenameDialog } from "./rename-dialog";

/** Renames a system. What somebody else does meanwhile is shown and neither overwritten nor written over the typing. */
export function EditSystemForm({ system }: { system: SystemPartsFragment }) {
  const [base, setBase] = useState({ name: system.name, revision: system.revision });
  const [name, setName] = useState(system.name);
  const [failed, setFailed] = useState<string>();
  const [rename, setRename] = useState<Rename>();
  // While the dialog is open it is the server that tells: it refuses a change of an older revision.
  const renamedMeanwhile = system.name !== base.name && rename === undefined;
  // A change of the key does not concern the name.
  if (system.name === base.name && system.revision !== base.revision) {
    setBase({ name: system.name, revision: system.revision });
  }

  const startFrom = (value: string) => {
    setBase({ name: system.name, revision: system.revision });
    setName(value);
    setFailed(undefined);
  };
  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const newName = name.trim();
    if (newName === base.name) {
      setFailed("This is the name already.");
      return;
    }
    setFailed(undefined);
    const { name: oldName, revision: expectedRevision } = base;
    setRename({ id: system.id, oldName, newName, expectedRevision });
  };
  const done = () => {
    const said = (
      <>
        The system is called <Name>{rename?.newName ?? name}</Name> now.
      </>
    );
    navigate(systemAddress(system.id), { replace: true, notice: said });
  };

  return (
    <>
      <form onSubmit={submit} noValidate>
        <Field
          label="System Name"
          value={name}
          onInput={setName}
          autoComplete="off"
          hint={NAMING_ADVICE}
          error={failed}
          autoFocus
        />
        <div class="actions">
          <Link to={systemAddress(system.id)} class="button">
            Cancel
          </Link>
          <button type="submit" class="primary">
            Save
          </button>
        </div>
      </form>
      {/* Below the form, so that what is about to be clicked stays where it is. */}
      <div role="alert" class={renamedMeanwhile ? "warning meanwhile" : undefined}>
        {renamedMeanwhile && (
          <>
            <p>
              Somebody else has changed the name to “<Name>{system.name}</Name>” meanwhile.
            </p>
            <div class="actions">
              <button type="button" onClick={() => startFrom(system.name)}>
                Take their name
              </button>
              <button type="button" onClick={() => startFrom(name)}>
                Keep what I typed
              </button>
            </div>
          </>
        )}
      </div>
      {rename && (
        <RenameDialog
          rename={rename}
          onRenamed={done}
          onRefused={(words) => {
            setRename(undefined);
            setFailed(words);
          }}
          onCancel={() => setRename(undefined)}
        />
      )}
    </>
  );
}
