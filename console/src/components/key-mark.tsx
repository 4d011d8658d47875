import { markText } from "../text/mark";

export function KeyMark({ mark }: { mark: string | null }) {
  return <span class={mark === null ? "quiet" : "mark"}>{markText(mark)}</span>;
}
