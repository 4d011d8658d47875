import type { SystemPartsFragment } from "@keymark/client/documents";
import { useState } from "preact/hooks";
import { navigate } from "../router";
import { systemPath } from "../routes";
import { EditDialog } from "./edit-dialog";
import { Name } from "./name";
import { SystemForm, type SystemTexts } from "./system-form";

/**
 * Edits the name, the description and the external ID of a system. A change by another operator in the meantime is shown; it is not
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
  const identifiedByOther = changedByOther("externalId");
  const isWarning = renamedByOther || describedByOther || identifiedByOther;

  /** Continues from the current texts with other ones as the input. */
  const rebase = (input: SystemTexts) => {
    setBase(current);
    setTexts(input);
    setError(undefined);
  };
  const submit = () => {
    const trimmed = {
      name: texts.name.trim(),
      description: texts.description.trim(),
      externalId: texts.externalId.trim(),
    };
    if (FIELDS.every((field) => trimmed[field] === current[field])) {
      const message =
        "This is already the system's name. Enter a different one, or change the description or the external ID.";
      setError({ field: "name", message });
      return;
    }
    setError(undefined);
    setConfirming(trimmed);
  };
  const onSaved = () => {
    const changed = confirming?.description === base.description ? "external ID" : "description";
    const notice =
      confirming === undefined || confirming.name === base.name ? (
        `The ${changed} was changed.`
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
        withExternalId
        onSubmit={submit}
      />
      {/* Below the form, so that its appearance does not move a button that is about to be clicked. */}
      <div role="alert" class={isWarning ? "warning conflict" : undefined}>
        {isWarning && (
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
                  in the meantime.{" "}
                </>
              )}
              {identifiedByOther && (
                <>
                  Another operator changed the external ID to “<Name>{current.externalId}</Name>” in
                  the meantime.
                </>
              )}
            </p>
            <div class="actions">
              <button type="button" onClick={() => rebase(theirs(base, current, texts))}>
                {`Take their ${theirField(renamedByOther, describedByOther)}`}
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

const FIELDS: readonly (keyof SystemTexts)[] = ["name", "description", "externalId"];

const textsOf = ({ name, description, externalId }: SystemPartsFragment): SystemTexts => ({
  name,
  description: description ?? "",
  externalId: externalId ?? "",
});

function theirField(renamedByOther: boolean, describedByOther: boolean): string {
  if (renamedByOther) return "name";
  return describedByOther ? "description" : "external ID";
}

/** Returns what was typed, with the current text in place of each that another operator changed. */
const theirs = (base: SystemTexts, current: SystemTexts, typed: SystemTexts): SystemTexts => ({
  name: current.name === base.name ? typed.name : current.name,
  description: current.description === base.description ? typed.description : current.description,
  externalId: current.externalId === base.externalId ? typed.externalId : current.externalId,
});
