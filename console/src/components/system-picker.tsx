import { useQuery } from "@urql/preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { SystemDocument, SystemsDocument } from "../gql/graphql";
import { fold } from "../text/names";
import { useDebounced } from "./use-debounced";
import type { SeenNames } from "./use-seen-names";

interface SystemPickerProps {
  systemId: string | undefined;
  /** Names of systems seen in the log, including deleted ones. */
  seen: SeenNames;
  onPick: (systemId: string | undefined) => void;
}

const SUGGESTIONS = 20;
const DEBOUNCE_MS = 150;

/** Picks a system by typing its name. Suggests existing systems and those seen in the log. */
export function SystemPicker({ systemId, seen, onPick }: SystemPickerProps) {
  const id = useId();
  const [typed, setTyped] = useState<string>();
  const search = useDebounced(typed ?? "", DEBOUNCE_MS);
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
  const idsByName = new Map(Array.from(seen, ([seenId, seenName]) => [seenName, seenId]));
  for (const system of found?.systems.nodes ?? []) idsByName.set(system.name, system.id);

  const pickedHere = useRef(systemId);
  if (pickedHere.current !== systemId) {
    // The system was changed from outside, such as by going back: the typed text belongs to the previous one.
    pickedHere.current = systemId;
    setTyped(undefined);
  }
  const pick = (text: string) => {
    const exact = Array.from(idsByName).find(([known]) => fold(known) === fold(text.trim()));
    const id = text === "" ? undefined : (exact?.[1] ?? systemId);
    if (id === systemId) return;
    pickedHere.current = id;
    onPick(id);
  };
  const latest = useRef(pick);
  latest.current = pick;
  // A full name may be typed before the server has suggested it.
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
        {Array.from(idsByName.keys(), (option) => (
          <option key={option} value={option} />
        ))}
      </datalist>
    </div>
  );
}
