const HIDDEN = "•".repeat(12);

/** Returns the text that lists show in place of a key. */
export const markText = (mark: string | null): string =>
  mark === null ? "Not generated" : HIDDEN + mark;

/** Returns a mark within a sentence. */
export const shortMark = (mark: string): string => `••••${mark}`;
