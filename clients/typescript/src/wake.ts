const TICK_MS = 2_000;
/** Ticks further apart than this mean that the machine or the tab was suspended. */
const SUSPENDED_MS = 10_000;

const RETRY_NOW = "keymark-retry-now";
const EVENTS = ["online", "offline", "pageshow", "resume", RETRY_NOW];

/**
 * In a browser, calls back when the tab becomes visible, after it was suspended, when the network comes or goes, and on
 * `retryNow`. Returns a function that removes the callback.
 */
export function onWake(callback: () => void): () => void {
  if (typeof document === "undefined") return () => undefined;
  const onVisible = () => {
    if (document.visibilityState === "visible") callback();
  };
  let lastTick = Date.now();
  const timer = setInterval(() => {
    const wasSuspended = Date.now() - lastTick > SUSPENDED_MS;
    lastTick = Date.now();
    if (wasSuspended) callback();
  }, TICK_MS);
  document.addEventListener("visibilitychange", onVisible);
  for (const event of EVENTS) addEventListener(event, callback);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", onVisible);
    for (const event of EVENTS) removeEventListener(event, callback);
  };
}

/** In a browser, ends every pause, so that whatever is backing off retries immediately. */
export const retryNow = () => dispatchEvent(new Event(RETRY_NOW));

/**
 * Resolves after a delay, on the next wake-up, or when the signal aborts. Waking cuts a backoff short, so that
 * nobody who looks at the page waits for it.
 */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    const stop = onWake(done);
    signal?.addEventListener("abort", done);
    function done() {
      clearTimeout(timer);
      stop();
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
