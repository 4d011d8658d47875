import { useId, useRef, useState } from "preact/hooks";
import type { NewKey } from "../graph/generate-key";
import { useLeaveGuard } from "../router";
import { Dialog } from "./dialog";
import { EnforcementStatus } from "./enforcement-status";
import { KeyMark } from "./key-mark";

interface NewKeyDialogProps {
  newKey: NewKey;
  onClose: () => void;
}

/** Shows a key in full, once. Until it is copied only Close closes the dialog, and leaving the page asks first. */
export function NewKeyDialog({ newKey, onClose }: NewKeyDialogProps) {
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const [copied, setCopied] = useState<"no" | "yes" | "by hand">("no");
  useLeaveGuard("The API key is shown only once. Leave without it?");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(newKey.apiKey);
      setCopied("yes");
    } catch {
      // The clipboard needs a secure context and the browser's permission.
      field.current?.focus();
      field.current?.select();
      setCopied("by hand");
    }
  };
  return (
    <Dialog title="API Key Generated" onEscape={copied === "yes" ? onClose : undefined}>
      <p class="warning">
        Copy the key now and store it safely. It is shown only once and cannot be shown again.
      </p>
      <label for={id}>API Key</label>
      <textarea
        ref={field}
        id={id}
        class="api-key"
        rows={2}
        readOnly
        spellcheck={false}
        autoComplete="off"
        dir="ltr"
        value={newKey.apiKey}
        onCopy={({ currentTarget: { value, selectionStart, selectionEnd } }) => {
          if (selectionEnd - selectionStart === value.length) setCopied("yes");
        }}
      />
      <p>
        API Key Mark: <KeyMark mark={newKey.mark} />
        <br />
        <span class="quiet">
          <EnforcementStatus verdict="accepted" enforcement={newKey.enforcement} />
        </span>
      </p>
      <p role="status" class="copied">
        {copied === "yes" && "The key was copied."}
        {copied === "by hand" &&
          "The browser did not allow copying. The key is selected: press Ctrl+C or ⌘C to copy it."}
      </p>
      <div class="actions">
        <button type="button" onClick={onClose}>
          Close
        </button>
        <button type="button" class="primary" onClick={copy}>
          {copied === "yes" ? "Copied" : "Copy"}
        </button>
      </div>
    </Dialog>
  );
}
