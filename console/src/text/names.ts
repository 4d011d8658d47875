// The server folds names by NFKC and Unicode's full case folding; upper case and back comes to the same for all but a
// few letters. A name that is misplaced by one of them is right again with the next page from the server.
export const fold = (name: string): string =>
  name.normalize("NFKC").toUpperCase().toLowerCase().replaceAll("ς", "σ").normalize("NFKC");

/** Names in the server's order: by code point once folded. */
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
