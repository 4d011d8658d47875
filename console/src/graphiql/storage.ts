const PREFIX = "graphiql:";
const LAYOUT = ["theme", "visiblePlugin", "docExplorerFlex", "editorFlex", "secondaryEditorFlex"];
const HISTORY = ["queries", "favorites"];
const SIGNED_OUT = "keymark-signed-out";

/** Matches text, since a document is stored while it is typed, too. Only arguments of mutations are secret. */
const mayHoldSecret = (document: unknown) =>
  typeof document === "string" && /\bmutation\b|password/i.test(document);

interface HistoryItem {
  query?: string;
  variables?: string;
  headers?: string;
}

/** Returns the part of a stored value that is not secret; null if none is, or if the value is malformed. */
export function withoutSecrets(key: string, value: string): string | null {
  const name = key.slice(PREFIX.length);
  try {
    if (LAYOUT.includes(name)) return value;
    if (name === "query") return mayHoldSecret(value) ? null : value;
    if (name === "tabState") return withoutSecretsOfTabs(value);
    if (HISTORY.includes(name)) return withoutSecretsOfHistory(name, value);
    return null;
  } catch {
    return null;
  }
}

const withoutSecretsOfTabs = (value: string) =>
  JSON.stringify(JSON.parse(value), (name, member) => {
    if (["variables", "headers", "response", "hash"].includes(name)) return null;
    return name === "query" && mayHoldSecret(member) ? null : member;
  });

const historyItems = (name: string, value: string): HistoryItem[] => JSON.parse(value)[name];

function withoutSecretsOfHistory(name: string, value: string) {
  const items = historyItems(name, value).filter(({ query }) => !mayHoldSecret(query));
  return JSON.stringify({ [name]: items.map(({ variables, headers, ...item }) => item) });
}

/** Stores what GraphiQL keeps in the browser, without secrets. */
export class SecretFreeStorage {
  private closed = false;

  /** Also removes the secrets that earlier releases stored. */
  constructor() {
    for (const key of keys()) {
      const value = this.getItem(key);
      if (value !== null) this.put(key, value);
    }
  }

  get length() {
    return keys().length;
  }

  getItem(key: string) {
    return localStorage.getItem(key);
  }

  setItem(key: string, value: string) {
    if (this.closed) return;
    this.put(key, value);
    const name = key.slice(PREFIX.length);
    if (
      HISTORY.includes(name) &&
      historyItems(name, value).some(({ query }) => mayHoldSecret(query))
    ) {
      // As if the storage were broken: then GraphiQL does not add the operation to the history that it shows, either.
      throw new Error("operations with secrets are not stored");
    }
  }

  removeItem(key: string) {
    localStorage.removeItem(key);
  }

  clear() {
    for (const key of keys()) this.removeItem(key);
  }

  /** Removes everything and stores nothing more. */
  close() {
    this.closed = true;
    this.clear();
  }

  private put(key: string, value: string) {
    const kept = withoutSecrets(key, value);
    if (kept === null) localStorage.removeItem(key);
    else localStorage.setItem(key, kept);
  }
}

const keys = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));

/** Removes what GraphiQL stored and what its open pages show; for when the operator is signed out. */
export function clearGraphiql() {
  for (const key of keys()) localStorage.removeItem(key);
  const channel = new BroadcastChannel(SIGNED_OUT);
  channel.postMessage(null);
  channel.close();
}

/** Calls `onSignedOut` when another page of this browser, or this one, called {@link clearGraphiql}. */
export function onGraphiqlCleared(onSignedOut: () => void) {
  new BroadcastChannel(SIGNED_OUT).onmessage = onSignedOut;
}
