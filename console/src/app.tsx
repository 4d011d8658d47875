import { Provider } from "@urql/preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Console } from "./console";
import { openSession } from "./session/session";
import { SessionContext } from "./session/session-context";

export function App() {
  const [held, setHeld] = useState(() => ({ number: 1, session: openSession() }));
  const { number, session } = held;
  useEffect(() => () => session.close(), [session]);
  const open = useMemo(() => {
    const restart = () => setHeld({ number: number + 1, session: openSession() });
    return { ...session, restart };
  }, [number, session]);
  return (
    <SessionContext.Provider value={open}>
      <Provider value={session.client}>
        <Console key={number} />
      </Provider>
    </SessionContext.Provider>
  );
}
