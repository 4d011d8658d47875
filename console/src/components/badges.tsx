import type { SystemPartsFragment } from "@keymark/client/documents";
import { useTick } from "../live/now";
import { badgesOf } from "../text/key-state";

/** What is worth knowing of a system's key at a glance, such as that it expires. */
export function Badges({ system }: { system: SystemPartsFragment }) {
  useTick((now) =>
    badgesOf(system, now)
      .map(({ text }) => text)
      .join(),
  );
  return (
    <>
      {badgesOf(system, new Date()).map(({ text, tone }) => (
        <span key={text} class={`badge ${tone}`}>
          {text}
        </span>
      ))}
    </>
  );
}
