import { SystemDocument, SystemsDocument } from "@keymark/client/documents";
import { useQuery } from "@urql/preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { failureOf } from "../text/failures";
import { fold, matchesSearch } from "../text/names";
import { keyGuard } from "./key-guard";
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
const KEY_REMOVED = "This is an API key, and was removed. Type the name of its system.";

/**
 * Picks a system by typing its name, as soon as it is the whole one; Enter also picks the only one that matches, or says
 * that there is none. Suggests existing systems and those seen in the log.
 */
export function SystemPicker({ systemId, seen, onPick }: SystemPickerProps) {
  const id = useId();
  const [typed, setTyped] = useState<string>();
  /** The text at which Enter was pressed. */
  const [entered, setEntered] = useState<string>();
  const [errorMessage, setErrorMessage] = useState<string>();
  const debounced = useDebounced(typed ?? "", DEBOUNCE_MS);
  const search = entered ?? debounced;
  const [{ data: found, error, operation, fetching, stale }] = useQuery({
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

  const settle = (text: string) => {
    setEntered(undefined);
    if (error !== undefined) {
      setErrorMessage(failureOf(error).message);
      return;
    }
    const matching = Array.from(idsByName.keys()).filter((known) => matchesSearch(known, text));
    const [only] = matching;
    const isExact = matching.some((known) => fold(known) === fold(text));
    if (only === undefined) setErrorMessage(`No system matches “${text}”.`);
    else if (isExact || matching.length === 1) {
      setTyped(isExact ? text : only);
      pick(isExact ? text : only);
    } else setErrorMessage("Several systems match. Choose one, or type more of its name.");
  };
  const latestSettle = useRef(settle);
  latestSettle.current = settle;
  const isFound = !fetching && !stale && operation?.variables.search === entered;
  useEffect(() => {
    if (entered !== undefined && isFound) latestSettle.current(entered);
  }, [entered, isFound]);
  const value = typed ?? name ?? "";
  const guard = keyGuard({
    value,
    onKey: () => setErrorMessage(KEY_REMOVED),
    onText(text) {
      setEntered(undefined);
      setErrorMessage(undefined);
      setTyped(text);
      pick(text);
    },
  });
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
        value={value}
        {...guard}
        onFocus={() => setTyped((before) => before ?? name ?? "")}
        aria-invalid={errorMessage !== undefined}
        aria-describedby={errorMessage === undefined ? undefined : `${id}-error`}
        onKeyDown={({ key, currentTarget: { value } }) => {
          if (key === "Enter" && value.trim() !== "") setEntered(value.trim());
        }}
        onBlur={() => {
          setTyped(undefined);
          setEntered(undefined);
          setErrorMessage(undefined);
        }}
      />
      {errorMessage !== undefined && (
        <p id={`${id}-error`} class="error" role="alert">
          {errorMessage}
        </p>
      )}
      <datalist id={`${id}-names`}>
        {Array.from(idsByName.keys(), (option) => (
          <option key={option} value={option} />
        ))}
      </datalist>
    </div>
  );
}
