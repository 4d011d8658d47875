import { vi } from "vitest";

/** Waits for an assertion to hold. The limit is for a machine that stands still; nothing takes as long by itself. */
export const eventually = (assertion: () => void): Promise<void> =>
  vi.waitFor(assertion, { timeout: 30_000, interval: 10 });
