import { Provider } from "@urql/preact";
import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Console } from "./console";
import { useTenantInUrl } from "./router";
import { openSession } from "./session/session";
import { SessionContext } from "./session/session-context";

export function App() {
  const tenant = useTenantInUrl();
  const [generation, setGeneration] = useState(1);
  // Not of a session: the sign-in page is in no tenant, so that its session is another one.
  const wasSignedIn = useRef(false);
  return (
    <SessionProvider
      key={`${generation} ${tenant}`}
      tenant={tenant}
      wasSignedIn={wasSignedIn}
      onRestart={() => {
        wasSignedIn.current = false;
        // Once, however many subscriptions ask for it.
        setGeneration(generation + 1);
      }}
    />
  );
}

interface SessionProviderProps {
  tenant: string | undefined;
  wasSignedIn: RefObject<boolean>;
  onRestart: () => void;
}

function SessionProvider({ tenant, wasSignedIn, onRestart }: SessionProviderProps) {
  const [session] = useState(() => ({ ...openSession(tenant), restart: onRestart }));
  useEffect(() => () => session.close(), [session]);
  return (
    <SessionContext.Provider value={session}>
      <Provider value={session.client}>
        <Console wasSignedIn={wasSignedIn} />
      </Provider>
    </SessionContext.Provider>
  );
}
