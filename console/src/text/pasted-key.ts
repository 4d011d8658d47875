/** A whole key with any valid prefix, also within other text, such as a header. */
const KEY =
  /(?<![0-9A-Za-z_])[A-Za-z](?:[0-9A-Za-z_]{0,30}[0-9A-Za-z])?_[0-9A-Za-z]{49}(?![0-9A-Za-z_])/;

/** The mark of a key: its last four characters. */
export const markOf = (key: string) => key.slice(-4);

/** What is searched for: a text, or the key whose mark this is. */
export type Search = { text: string } | { keyMark: string };

/**
 * Parses the text of a search box. Of a text that contains a whole key only the mark is returned: the key itself must
 * not reach a URL, the history or a request. The checksum is not verified, since a key with a typing error in it is
 * nearly as secret.
 */
export function parseSearch(text: string): Search {
  const key = KEY.exec(text)?.[0];
  if (key === undefined) return { text };
  // A successful match replaces the text that `RegExp.input` keeps.
  /^/.test("");
  return { keyMark: markOf(key) };
}

/** Whether a text that is searched for may be a mark. */
export const couldBeMark = (text: string): boolean => /^[0-9A-Za-z]{4}$/.test(text);
