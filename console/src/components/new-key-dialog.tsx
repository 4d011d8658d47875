import { useId, useRef, useState } from "preact/hooks";
import { Dialog } from "./dialog";
import { KeyMark } from "./key-mark";

export interface NewKey {
  apiKey: string;
  mark: string | null;
}

interface NewKeyDialogProps {
  newKey: NewKey;
  onClose: () => void;
}

/** Shows a key in full, once. Only Close ends it until the key was copied. */
export function NewKeyDialog({ newKey, onClose }: NewKeyDialogProps) {
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const [copied, setCopied] = useState<"no" | "yes" | "by hand">("no");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(newKey.apiKey);
      setCopied("yes");
    } catch {
      // No clipboard outside of a secure context, or without the browser's consent.
      field.current?.select();
      setCopied("by hand");
    }
  };
  return (
    <Dialog title="API Key Generated" onEscape={copied === "yes" ? onClose : undefined}>
      <p class="warning">
        Copy the key now and keep it safe: it is shown only this once and cannot be shown again.
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
        value={newKey.apiKey}
      />
      <p>
        API Key Mark: <KeyMark mark={newKey.mark} />
      </p>
      <p role="status" class="quiet">
        {copied === "yes" && "The key was copied."}
        {copied === "by hand" &&
          "The browser does not allow copying. The key is selected: press Ctrl+C."}
      </p>
      <div class="actions">
        <button type="button" class="primary" onClick={copy}>
          {copied === "yes" ? "Copied" : "Copy"}
        </button>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
