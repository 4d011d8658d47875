const HIDDEN = "•".repeat(12);

/** What stands for a key wherever it is not shown in full. */
export const markText = (mark: string | null): string =>
  mark === null ? "Not generated" : HIDDEN + mark;
