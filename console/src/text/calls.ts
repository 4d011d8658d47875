/** How many calls of a key were known to be counted at a time, in ms. */
export interface Sample {
  at: number;
  accepted: number;
}

export const BIN_MS = 30_000;
export const BINS = 20;
const KEPT_MS = (BINS + 1) * BIN_MS;

/**
 * Returns the samples with a newer one if it counts more calls, without those that are too old to be shown; the oldest is
 * the baseline.
 */
export function withSample(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const last = samples.at(-1);
  if (last !== undefined && sample.accepted <= last.accepted) return samples;
  const firstKept = samples.findLastIndex(({ at }) => at <= sample.at - KEPT_MS);
  return [...samples.slice(Math.max(0, firstKept)), sample];
}

/**
 * Returns the calls in each of the last `BINS` bins of `BIN_MS`, oldest first. The bins are multiples of their length, so
 * that a bar keeps its height while it moves on.
 */
export function callsByBin(samples: readonly Sample[], now: number): number[] {
  const end = Math.ceil(now / BIN_MS);
  const calls = Array.from({ length: BINS }, () => 0);
  for (const [at, sample] of samples.entries()) {
    const before = samples[at - 1];
    if (before === undefined) continue;
    const bin = Math.ceil(sample.at / BIN_MS) - end + BINS - 1;
    if (calls[bin] !== undefined) calls[bin] += sample.accepted - before.accepted;
  }
  return calls;
}

/** Describes the calls of a key, as a text alternative of the chart. */
export function callsText(calls: readonly number[], locale?: string): string {
  const total = calls.reduce((sum, count) => sum + count, 0);
  const count = new Intl.NumberFormat(locale).format(total);
  const minutes = (BINS * BIN_MS) / 60_000;
  return `${count} ${total === 1 ? "call" : "calls"} in the last ${minutes} minutes`;
}
