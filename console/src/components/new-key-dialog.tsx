import type { NewKey } from "../graph/generate-key";
import { clientRequest } from "../text/client-request";
import { exactTime } from "../text/time";
import { EnforcementStatus } from "./enforcement-status";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { ShownOnceDialog } from "./shown-once-dialog";

interface NewKeyDialogProps {
  newKey: NewKey;
  onClose: () => void;
}

/** Shows a key in full, once, with the request that uses it. */
export const NewKeyDialog = ({ newKey, onClose }: NewKeyDialogProps) => (
  <ShownOnceDialog
    title={newKey.rotated ? "API Key Rotated" : "API Key Generated"}
    noun="key"
    label="API Key"
    secret={newKey.apiKey}
    ifLost="If it is lost, rotate it, or revoke it and generate a new one."
    advice="Store it in your application's secrets manager or in an environment variable. Never hard-code it or commit it to a repository."
    request={{
      text: clientRequest(newKey.apiKey),
      advice: (
        <>
          Replace the address by that of your API. The key goes in the header <code>X-Api-Key</code>
          , or in <code>Authorization</code> after <code>Bearer</code>.
        </>
      ),
    }}
    onClose={onClose}
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
            {exactTime(new Date(newKey.retiring.expiresAt))}. Change the application over to the new
            key before.
          </>
        ) : (
          "The old key is refused already."
        )}
      </p>
    )}
  </ShownOnceDialog>
);
