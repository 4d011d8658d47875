import type { Liveness } from "../graph/socket";
import { useObserved } from "../live/observed";
import { useSession } from "../session/session-context";

const WORDS: Record<Liveness["state"], string> = {
  connecting: "Connecting…",
  live: "Live",
  interrupted: "Connection lost. Reconnecting…",
  ended: "Not live",
};

/** Whether what the page shows is kept up to date. */
export function LiveDot() {
  const { state } = useObserved(useSession().liveness);
  return (
    <span class="liveness" role="status">
      <span class={`dot ${state}`} aria-hidden="true" />
      {WORDS[state]}
    </span>
  );
}
