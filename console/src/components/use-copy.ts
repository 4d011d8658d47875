import type { RefObject } from "preact";
import { useState } from "preact/hooks";

export type CopyState = "no" | "yes" | "by hand";

/**
 * Copies a text that an element shows. Where the browser refuses, as it does without a secure context or its permission,
 * the text in the element is selected instead, to be copied by hand.
 */
export function useCopy(element: RefObject<HTMLElement | null>, text: string) {
  const [copied, setCopied] = useState<CopyState>("no");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied("yes");
    } catch {
      select(element.current);
      setCopied("by hand");
    }
  };
  /** Handles the `copy` event of the element: the operator has copied by hand. */
  const onCopy = () => {
    if (selectedIn(element.current) === text) setCopied("yes");
  };
  return { copied, copy, onCopy };
}

function select(element: HTMLElement | null): void {
  if (element instanceof HTMLTextAreaElement) {
    element.focus();
    element.select();
  } else if (element !== null) getSelection()?.selectAllChildren(element);
}

function selectedIn(element: HTMLElement | null): string | undefined {
  if (!(element instanceof HTMLTextAreaElement)) return getSelection()?.toString();
  const { value, selectionStart, selectionEnd } = element;
  return value.slice(selectionStart, selectionEnd);
}

/** Follows the name of what is selected. */
export const SELECTED = "is selected: press Ctrl+C or ⌘C to copy it.";
