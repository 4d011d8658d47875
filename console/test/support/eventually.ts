import { vi } from "vitest";

/** Waits until an assertion holds. The timeout is generous, for machines under load. */
export const eventually = (assertion: () => void): Promise<void> =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 10 });
