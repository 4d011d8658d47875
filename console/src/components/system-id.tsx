import { useRef } from "preact/hooks";
import { SELECTED, useCopy } from "./use-copy";

/** The id of a system, with a button that copies it. */
export function SystemId({ id }: { id: string }) {
  const code = useRef<HTMLElement>(null);
  const { copied, copy, onCopy } = useCopy(code, id);
  return (
    <>
      <code ref={code} class="id" onCopy={onCopy}>
        {id}
      </code>{" "}
      <button type="button" class="small" onClick={copy}>
        {copied === "yes" ? "Copied ID" : "Copy ID"}
      </button>
      <span role="status" class="quiet">
        {copied === "by hand" && ` The ID ${SELECTED}`}
      </span>
    </>
  );
}
