const TICK_MS = 2_000;
const SLEPT_MS = 10_000;

const WAKE = "keymark-wake";
const EVENTS = ["online", "offline", "pageshow", "resume", WAKE];

/** Calls back when the tab is looked at again, when it has slept, and when the network comes or goes. */
export function onWake(callback: () => void): () => void {
  const onVisible = () => {
    if (document.visibilityState === "visible") callback();
  };
  let ticked = Date.now();
  const timer = setInterval(() => {
    const slept = Date.now() - ticked > SLEPT_MS;
    ticked = Date.now();
    if (slept) callback();
  }, TICK_MS);
  document.addEventListener("visibilitychange", onVisible);
  for (const event of EVENTS) addEventListener(event, callback);
  return () => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", onVisible);
    for (const event of EVENTS) removeEventListener(event, callback);
  };
}

/** Ends every pause: what was tried in vain has a reason to succeed now. */
export const wake = () => dispatchEvent(new Event(WAKE));

/** Waits, but not through an awakening: whoever looks again should not wait for a long back-off to pass. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
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
