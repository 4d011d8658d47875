const INITIAL_DELAY_MS = 500;
const MAX_DELAY_MS = 30_000;

/** Returns the delay before the next retry in ms: exponential up to `MAX_DELAY_MS`, half of it random. */
export function backoff(failures: number, random: () => number = Math.random): number {
  const delay = Math.min(MAX_DELAY_MS, INITIAL_DELAY_MS * 2 ** failures);
  return delay / 2 + (delay / 2) * random();
}
