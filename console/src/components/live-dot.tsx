import { useEffect, useState } from "preact/hooks";
import type { ConnectionStatus } from "../graph/socket";
import { useObservable } from "../live/observable";
import { useSession } from "../session/session-context";

const LABELS: Record<ConnectionStatus["state"], string> = {
  connecting: "Connecting…",
  live: "Live",
  interrupted: "Connection lost. Reconnecting…",
  ended: "Not live",
};
const OFFLINE = "You are offline.";

/** Shows whether the page receives changes live. */
export function LiveDot() {
  const { state } = useObservable(useSession().connection);
  const online = useOnline();
  const label = state === "interrupted" && !online ? OFFLINE : LABELS[state];
  return (
    <span class={`connection ${state}`} role="status">
      <span class="dot" aria-hidden="true" />
      {label}
    </span>
  );
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const update = () => setOnline(navigator.onLine);
    update();
    addEventListener("online", update);
    addEventListener("offline", update);
    return () => {
      removeEventListener("online", update);
      removeEventListener("offline", update);
    };
  }, []);
  return online;
}
