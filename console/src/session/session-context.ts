import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Session } from "./session";

interface RestartableSession extends Session {
  /** Replaces the session with a new, empty one; for after signing in or out, or a restored store. */
  restart(): void;
}

export const SessionContext = createContext<RestartableSession | undefined>(undefined);

export function useSession(): RestartableSession {
  const session = useContext(SessionContext);
  if (session === undefined) throw new Error("useSession needs a SessionContext");
  return session;
}
