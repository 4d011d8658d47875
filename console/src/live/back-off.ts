const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/** How long to wait before the next try: doubling up to half a minute, half of it by chance. */
export function backOff(failures: number, random: () => number = Math.random): number {
  const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** failures);
  return wait / 2 + (wait / 2) * random();
}
