// The server folds names by NFKC and Unicode's full case folding. Upper-casing and then lower-casing is the same for
// all but a few letters; a name that one of them misplaces is corrected by the next page from the server.
export const fold = (name: string): string =>
  name.normalize("NFKC").toUpperCase().toLowerCase().replaceAll("ς", "σ").normalize("NFKC");

/** Compares names in the server's order: folded, by code point. */
export function compareNames(one: string, other: string): number {
  const left = Array.from(fold(one));
  const right = Array.from(fold(other));
  for (const [at, character] of left.entries()) {
    const difference = (character.codePointAt(0) ?? 0) - (right[at]?.codePointAt(0) ?? -1);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

export const matchesSearch = (name: string, search: string): boolean =>
  fold(name).includes(fold(search));

interface Described {
  readonly name: string;
  readonly description: string | null;
  readonly externalId: string | null;
}

/** Whether the name, the description or the external ID of a system contains the text that is searched for. */
export const isFound = ({ name, description, externalId }: Described, search: string): boolean =>
  [name, description, externalId].some((text) => text !== null && matchesSearch(text, search));
