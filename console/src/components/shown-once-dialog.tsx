import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { useLeaveGuard } from "../router";
import { Dialog } from "./dialog";
import { SELECTED, useCopy } from "./use-copy";

interface ShownOnceDialogProps {
  title: string;
  /** What is shown, in sentences, such as "key". */
  noun: string;
  /** The same, as the label of the field. */
  label: string;
  secret: string;
  /** What to do if it is lost. */
  ifLost: string;
  /** Where to keep it. */
  advice: ComponentChildren;
  /** A request that uses it, as a command for a shell, and what to change in it. */
  request?: { text: string; advice: ComponentChildren };
  /** Shown above. */
  children: ComponentChildren;
  onClose: () => void;
}

/**
 * Shows a secret in full, once. Until it is copied only Close closes the dialog, which asks first, as does leaving the
 * page.
 */
export function ShownOnceDialog(props: ShownOnceDialogProps) {
  const { title, noun, label, secret, ifLost, advice, request, children, onClose } = props;
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const requestField = useRef<HTMLTextAreaElement>(null);
  const whole = useCopy(field, secret);
  const example = useCopy(requestField, request?.text ?? "");
  const [asked, setAsked] = useState(false);
  // The request contains the secret.
  const copied = whole.copied === "yes" || example.copied === "yes";
  useLeaveGuard(`The ${noun} is shown only once. Leave without it?`);
  const close = (event: MouseEvent) => {
    if (copied) return onClose();
    // The second click of a double click does not answer the question that the first one asked.
    if (asked && event.detail <= 1) return onClose();
    setAsked(true);
  };
  return (
    <Dialog title={title} onEscape={copied ? onClose : undefined}>
      {children}
      <p class="warning">
        Copy the {noun} now: it is shown only once and cannot be shown again. {ifLost}
      </p>
      <label for={`${id}-secret`}>{label}</label>
      <textarea
        ref={field}
        id={`${id}-secret`}
        class="api-key"
        rows={2}
        readOnly
        spellcheck={false}
        autoComplete="off"
        dir="ltr"
        value={secret}
        onCopy={whole.onCopy}
      />
      <p class="quiet">{advice}</p>
      {request && (
        <>
          <div class="label-row">
            <label for={`${id}-request`}>Request with this {noun}</label>
            {/* Not named “Copy …”, so that its name is not mistaken for that of the other button. */}
            <button type="button" class="small" onClick={example.copy}>
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
            value={request.text}
            onCopy={example.onCopy}
          />
          <p class="quiet">{request.advice}</p>
        </>
      )}
      <p role="status" class="copied">
        {whole.copied === "yes" && `The ${noun} was copied. `}
        {example.copied === "yes" && `The request was copied, with the ${noun} in it.`}
        {whole.copied === "by hand" && `The browser did not allow copying. The ${noun} ${SELECTED}`}
        {example.copied === "by hand" &&
          `The browser did not allow copying. The request ${SELECTED}`}
      </p>
      <p role="alert" class={asked && !copied ? "warning" : undefined}>
        {asked &&
          !copied &&
          `The ${noun} was not copied, and cannot be shown again. Choose Close again to close without it.`}
      </p>
      <div class="actions">
        <button type="button" onClick={close}>
          Close
        </button>
        <button type="button" class="primary" onClick={whole.copy}>
          {whole.copied === "yes" ? "Copied" : "Copy"}
        </button>
      </div>
    </Dialog>
  );
}
