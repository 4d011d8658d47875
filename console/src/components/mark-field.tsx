import { useEffect, useId, useState } from "preact/hooks";
import { couldBeMark } from "../text/pasted-key";
import { keyGuard } from "./key-guard";

interface MarkFieldProps {
  mark: string | undefined;
  onChoose: (mark: string | undefined) => void;
}

/** An input for the mark of a key, or for a whole key, of which only the mark remains. It reports whole marks. */
export function MarkField({ mark, onChoose }: MarkFieldProps) {
  const id = useId();
  const [typed, setTyped] = useState(mark ?? "");
  useEffect(() => setTyped(mark ?? ""), [mark]);
  const enter = (text: string) => {
    setTyped(text);
    if (text === "" || couldBeMark(text)) onChoose(text || undefined);
  };
  return (
    <div class="field mark-field">
      <label for={id}>Key Mark</label>
      <input
        id={id}
        type="search"
        placeholder="Any"
        autoComplete="off"
        spellcheck={false}
        dir="ltr"
        value={typed}
        {...keyGuard({ value: typed, onText: enter, onKey: enter })}
        onBlur={() => setTyped(mark ?? "")}
      />
    </div>
  );
}
