import { Provider } from "@urql/preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Console } from "./console";
import { openSession } from "./session/session";
import { SessionContext } from "./session/session-context";

export function App() {
  const [{ generation, session }, setState] = useState(() => ({
    generation: 1,
    session: openSession(),
  }));
  useEffect(() => () => session.close(), [session]);
  const restartable = useMemo(() => {
    // Once, however many subscriptions ask for it.
    const restart = () =>
      setState((current) =>
        current.generation === generation
          ? { generation: generation + 1, session: openSession() }
          : current,
      );
    return { ...session, restart };
  }, [generation, session]);
  return (
    <SessionContext.Provider value={restartable}>
      <Provider value={session.client}>
        <Console key={generation} />
      </Provider>
    </SessionContext.Provider>
  );
}
