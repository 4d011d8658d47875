import { markText } from "../text/mark";

/** What stands for a key: its last characters, or that there is none. */
export function KeyMark({ mark }: { mark: string | null }) {
  return <span class={mark === null ? "quiet" : "mark"}>{markText(mark)}</span>;
}
