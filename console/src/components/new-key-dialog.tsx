import { useId, useRef, useState } from "preact/hooks";
import type { NewKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import { clientRequest } from "../text/client-request";
import { exactTime } from "../text/time";
import { Dialog } from "./dialog";
import { EnforcementStatus } from "./enforcement-status";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { SELECTED, useCopy } from "./use-copy";

interface NewKeyDialogProps {
  newKey: NewKey;
  onClose: () => void;
}

/**
 * Shows a key in full, once, with the request that uses it. Until it is copied only Close closes the dialog, which asks
 * first, as does leaving the page.
 */
export function NewKeyDialog({ newKey, onClose }: NewKeyDialogProps) {
  const id = useId();
  const keyField = useRef<HTMLTextAreaElement>(null);
  const requestField = useRef<HTMLTextAreaElement>(null);
  const key = useCopy(keyField, newKey.apiKey);
  const requestText = clientRequest(newKey.apiKey);
  const request = useCopy(requestField, requestText);
  const [asked, setAsked] = useState(false);
  // The request contains the key.
  const copied = key.copied === "yes" || request.copied === "yes";
  useLeaveGuard("The API key is shown only once. Leave without it?");
  const close = (event: MouseEvent) => {
    if (copied) return onClose();
    // The second click of a double click does not answer the question that the first one asked.
    if (asked && event.detail <= 1) return onClose();
    setAsked(true);
  };
  return (
    <Dialog
      title={newKey.rotated ? "API Key Rotated" : "API Key Generated"}
      onEscape={copied ? onClose : undefined}
    >
      <p>
        For{" "}
        <strong>
          <Name>{newKey.systemName}</Name>
        </strong>
        , mark: <KeyMark mark={newKey.mark} />
        <br />
        <span class="quiet">
          <EnforcementStatus verdict="accepted" enforcement={newKey.enforcement} />
          {newKey.expiresAt !== null && <> Expires on {exactTime(new Date(newKey.expiresAt))}.</>}
        </span>
      </p>
      {newKey.rotated && (
        <p>
          {newKey.retiring?.expiresAt ? (
            <>
              The old key <KeyMark mark={newKey.retiring.mark} /> goes on until{" "}
              {exactTime(new Date(newKey.retiring.expiresAt))}. Change the application over to the
              new key before.
            </>
          ) : (
            "The old key is refused already."
          )}
        </p>
      )}
      <p class="warning">
        Copy the key now: it is shown only once and cannot be shown again. If it is lost, rotate it,
        or revoke it and generate a new one.
      </p>
      <label for={`${id}-key`}>API Key</label>
      <textarea
        ref={keyField}
        id={`${id}-key`}
        class="api-key"
        rows={2}
        readOnly
        spellcheck={false}
        autoComplete="off"
        dir="ltr"
        value={newKey.apiKey}
        onCopy={key.onCopy}
      />
      <p class="quiet">
        Store it in your application's secrets manager or in an environment variable. Never
        hard-code it or commit it to a repository.
      </p>
      <div class="label-row">
        <label for={`${id}-request`}>Request with this key</label>
        {/* Not named “Copy …”, so that its name is not mistaken for that of the other button. */}
        <button type="button" class="small" onClick={request.copy}>
          Request to clipboard
        </button>
      </div>
      <textarea
        ref={requestField}
        id={`${id}-request`}
        class="api-key request"
        rows={3}
        readOnly
        spellcheck={false}
        autoComplete="off"
        dir="ltr"
        value={requestText}
        onCopy={request.onCopy}
      />
      <p class="quiet">
        Replace the address by that of your API. The key goes in the header <code>X-Api-Key</code>,
        or in <code>Authorization</code> after <code>Bearer</code>.
      </p>
      <p role="status" class="copied">
        {key.copied === "yes" && "The key was copied. "}
        {request.copied === "yes" && "The request was copied, with the key in it."}
        {key.copied === "by hand" && `The browser did not allow copying. The key ${SELECTED}`}
        {request.copied === "by hand" &&
          `The browser did not allow copying. The request ${SELECTED}`}
      </p>
      <p role="alert" class={asked && !copied ? "warning" : undefined}>
        {asked &&
          !copied &&
          "The key was not copied, and cannot be shown again. Choose Close again to close without it."}
      </p>
      <div class="actions">
        <button type="button" onClick={close}>
          Close
        </button>
        <button type="button" class="primary" onClick={key.copy}>
          {key.copied === "yes" ? "Copied" : "Copy"}
        </button>
      </div>
    </Dialog>
  );
}
