import { pause } from "@keymark/client";

/** Half of it is random, so that the windows of many operators do not all ask at the same time. */
const VISIBLE_INTERVAL_MS = 800;
/** Nobody sees a hidden page, and becoming visible ends the pause. */
const HIDDEN_INTERVAL_MS = 30_000;
/** A connection that takes longer than this is tried again, as packets are lost without notice while a network changes. */
const TIMEOUT_MS = 5_000;

/**
 * Resolves once the server responds. The server is asked by HTTP, as browsers delay a WebSocket by seconds after many
 * that failed.
 */
export async function untilReachable(random: () => number = Math.random): Promise<void> {
  while (!(await isReachable())) {
    const interval =
      document.visibilityState === "visible" ? VISIBLE_INTERVAL_MS : HIDDEN_INTERVAL_MS;
    await pause(interval / 2 + (interval / 2) * random());
  }
}

async function isReachable(): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    // Proxies in front respond with 502 to 504 while the server is down.
    return (await fetch("/healthz", { cache: "no-store", signal })).status < 500;
  } catch {
    return false;
  }
}
