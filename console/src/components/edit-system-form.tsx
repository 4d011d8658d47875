import type { SystemPartsFragment } from "@keymark/client/documents";
import { useState } from "preact/hooks";
import { navigate } from "../router";
import { systemPath } from "../routes";
import { EditDialog } from "./edit-dialog";
import { Name } from "./name";
import { SystemForm, type SystemTexts } from "./system-form";

/**
 * Edits the name and the description of a system. A change by another operator in the meantime is shown; it is not
 * overwritten without asking, and does not replace what is typed here.
 */
export function EditSystemForm({ system }: { system: SystemPartsFragment }) {
  const current = textsOf(system);
  /** The texts that are being edited. */
  const [base, setBase] = useState(current);
  const [texts, setTexts] = useState(current);
  const [error, setError] = useState<{ field: keyof SystemTexts; message: string }>();
  /** The texts to confirm. */
  const [confirming, setConfirming] = useState<SystemTexts>();
  // While the dialog is open, it shows what another operator changed.
  const changedByOther = (field: keyof SystemTexts) =>
    confirming === undefined &&
    current[field] !== base[field] &&
    current[field] !== texts[field].trim();
  const renamedByOther = changedByOther("name");
  const describedByOther = changedByOther("description");

  /** Continues from the current texts with other ones as the input. */
  const rebase = (input: SystemTexts) => {
    setBase(current);
    setTexts(input);
    setError(undefined);
  };
  const submit = () => {
    const trimmed = { name: texts.name.trim(), description: texts.description.trim() };
    if (trimmed.name === current.name && trimmed.description === current.description) {
      const message =
        "This is already the system's name. Enter a different one, or change the description.";
      setError({ field: "name", message });
      return;
    }
    setError(undefined);
    setConfirming(trimmed);
  };
  const onSaved = () => {
    const notice =
      confirming === undefined || confirming.name === base.name ? (
        "The description was changed."
      ) : (
        <>
          The system was renamed to <Name>{confirming.name}</Name>.
        </>
      );
    navigate(systemPath(system.id), { replace: true, notice });
  };

  return (
    <>
      <SystemForm
        texts={texts}
        onInput={setTexts}
        error={error}
        cancelTo={systemPath(system.id)}
        submitLabel="Save"
        onSubmit={submit}
      />
      {/* Below the form, so that its appearance does not move a button that is about to be clicked. */}
      <div role="alert" class={renamedByOther || describedByOther ? "warning conflict" : undefined}>
        {(renamedByOther || describedByOther) && (
          <>
            <p>
              {renamedByOther && (
                <>
                  Another operator changed the name to “<Name>{current.name}</Name>” in the
                  meantime.{" "}
                </>
              )}
              {describedByOther && (
                <>
                  Another operator changed the description to “<Name>{current.description}</Name>”
                  in the meantime.
                </>
              )}
            </p>
            <div class="actions">
              <button type="button" onClick={() => rebase(theirs(base, current, texts))}>
                {renamedByOther ? "Take their name" : "Take their description"}
              </button>
              <button type="button" onClick={() => rebase(texts)}>
                Keep what I typed
              </button>
            </div>
          </>
        )}
      </div>
      {confirming !== undefined && (
        <EditDialog
          system={system}
          edited={base}
          texts={confirming}
          onSaved={onSaved}
          onRefused={(field, message) => {
            setConfirming(undefined);
            setError({ field, message });
          }}
          onCancel={() => setConfirming(undefined)}
        />
      )}
    </>
  );
}

const textsOf = ({ name, description }: SystemPartsFragment): SystemTexts => ({
  name,
  description: description ?? "",
});

/** Returns what was typed, with the current text in place of each that another operator changed. */
const theirs = (base: SystemTexts, current: SystemTexts, typed: SystemTexts): SystemTexts => ({
  name: current.name === base.name ? typed.name : current.name,
  description: current.description === base.description ? typed.description : current.description,
});
