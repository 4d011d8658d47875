import { Provider } from "@urql/preact";
import { useEffect, useState } from "preact/hooks";
import { Console } from "./console";
import { useTenantInUrl } from "./router";
import { openSession } from "./session/session";
import { SessionContext } from "./session/session-context";

export function App() {
  const tenant = useTenantInUrl();
  const [generation, setGeneration] = useState(1);
  return (
    <SessionProvider
      key={`${generation} ${tenant}`}
      tenant={tenant}
      // Once, however many subscriptions ask for it.
      onRestart={() => setGeneration(generation + 1)}
    />
  );
}

interface SessionProviderProps {
  tenant: string | undefined;
  onRestart: () => void;
}

function SessionProvider({ tenant, onRestart }: SessionProviderProps) {
  const [session] = useState(() => ({ ...openSession(tenant), restart: onRestart }));
  useEffect(() => () => session.close(), [session]);
  return (
    <SessionContext.Provider value={session}>
      <Provider value={session.client}>
        <Console />
      </Provider>
    </SessionContext.Provider>
  );
}
