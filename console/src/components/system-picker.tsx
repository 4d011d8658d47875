import { useQuery } from "@urql/preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { SystemDocument, SystemsDocument } from "../gql/graphql";
import { fold } from "../text/names";
import type { SeenNames } from "./use-seen-names";
import { useSettled } from "./use-settled";

interface SystemPickerProps {
  systemId: string | undefined;
  /** Names of systems in the log, of which some may be gone. */
  seen: SeenNames;
  onPick: (systemId: string | undefined) => void;
}

const SUGGESTIONS = 20;
const ASK_AFTER_MS = 150;

/** Names a system by typing: of those that there are, and those that the log remembers. */
export function SystemPicker({ systemId, seen, onPick }: SystemPickerProps) {
  const id = useId();
  const [typed, setTyped] = useState<string>();
  const search = useSettled(typed ?? "", ASK_AFTER_MS);
  const [{ data: found }] = useQuery({
    query: SystemsDocument,
    variables: { search, first: SUGGESTIONS },
    requestPolicy: "cache-and-network",
    pause: typed === undefined,
  });
  const [{ data: picked }] = useQuery({
    query: SystemDocument,
    variables: { id: systemId ?? "" },
    pause: systemId === undefined,
  });
  const name = systemId && (picked?.system?.name ?? seen.get(systemId) ?? systemId);
  const options = new Map(Array.from(seen, ([known, words]) => [words, known]));
  for (const system of found?.systems.nodes ?? []) options.set(system.name, system.id);

  const picks = useRef(systemId);
  if (picks.current !== systemId) {
    // Chosen elsewhere, by the history for one: what is typed is about another system.
    picks.current = systemId;
    setTyped(undefined);
  }
  const pick = (words: string) => {
    const exact = Array.from(options).find(([option]) => fold(option) === fold(words.trim()));
    const id = words === "" ? undefined : (exact?.[1] ?? systemId);
    if (id === systemId) return;
    picks.current = id;
    onPick(id);
  };
  const latest = useRef(pick);
  latest.current = pick;
  // Who types a whole name is faster than the server.
  useEffect(() => {
    if (found !== undefined && typed) latest.current(typed);
  }, [found, typed]);
  return (
    <div class="field">
      <label for={id}>System</label>
      <input
        id={id}
        type="search"
        list={`${id}-names`}
        placeholder="Any"
        autoComplete="off"
        dir="auto"
        value={typed ?? name ?? ""}
        onFocus={() => setTyped((before) => before ?? name ?? "")}
        onInput={({ currentTarget }) => {
          setTyped(currentTarget.value);
          pick(currentTarget.value);
        }}
        onBlur={() => setTyped(undefined)}
      />
      <datalist id={`${id}-names`}>
        {Array.from(options.keys(), (option) => (
          <option key={option} value={option} />
        ))}
      </datalist>
    </div>
  );
}
