import { useEffect, useState } from "preact/hooks";
import type { Liveness } from "../graph/socket";
import { useObserved } from "../live/observed";
import { useSession } from "../session/session-context";

const WORDS: Record<Liveness["state"], string> = {
  connecting: "Connecting…",
  live: "Live",
  interrupted: "Connection lost. Reconnecting…",
  ended: "Not live",
};
const OFFLINE = "You are offline.";

/** Whether what the page shows is kept up to date. */
export function LiveDot() {
  const { state } = useObserved(useSession().liveness);
  const online = useOnline();
  const words = state === "interrupted" && !online ? OFFLINE : WORDS[state];
  return (
    <span class={`liveness ${state}`} role="status">
      <span class="dot" aria-hidden="true" />
      {words}
    </span>
  );
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const follow = () => setOnline(navigator.onLine);
    follow();
    addEventListener("online", follow);
    addEventListener("offline", follow);
    return () => {
      removeEventListener("online", follow);
      removeEventListener("offline", follow);
    };
  }, []);
  return online;
}
