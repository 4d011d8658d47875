import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Session } from "./session";

interface OpenSession extends Session {
  /** Drops everything that is held: after signing in or out. */
  restart(): void;
}

export const SessionContext = createContext<OpenSession | undefined>(undefined);

export function useSession(): OpenSession {
  const session = useContext(SessionContext);
  if (session === undefined) throw new Error("used outside of a session");
  return session;
}

export const useOpenedPages = (): Set<string> => useSession().openedPages;
