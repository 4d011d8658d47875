/** The longest description of a system, and the longest reason for a change, in characters. */
export const MAX_DESCRIPTION_CHARACTERS = 500;
export const MAX_REASON_CHARACTERS = 200;

const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** Counts characters as people do (grapheme clusters), without white space around the text, as the server does. */
export function countCharacters(text: string): number {
  let count = 0;
  for (const _ of segmenter.segment(text.trim())) count += 1;
  return count;
}
