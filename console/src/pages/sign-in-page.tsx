import { SignInDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Field } from "../components/field";
import { UNKEPT } from "../graph/secrets";
import { clearGraphiql } from "../graphiql/storage";
import { navigate, useLocation } from "../router";
import { pathAfterSignIn } from "../routes";
import { useSession } from "../session/session-context";
import { failureOf } from "../text/failures";

interface SignInPageProps {
  sessionEnded: boolean;
  /** Called when another tab may have signed in: the viewer has to be refetched. */
  onSignedInElsewhere: () => void;
}

export function SignInPage({ sessionEnded, onSignedInElsewhere }: SignInPageProps) {
  const client = useClient();
  const { restart } = useSession();
  const { search } = useLocation();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [errorMessage, setErrorMessage] = useState<string>();
  useLayoutEffect(() => {
    document.title = "Sign in – Keymark";
  }, []);
  useEffect(() => {
    if (sessionEnded) clearGraphiql();
  }, [sessionEnded]);
  const latest = useRef(onSignedInElsewhere);
  latest.current = onSignedInElsewhere;
  useEffect(() => {
    const onVisibilityChange = () => {
      if (document.visibilityState === "visible") latest.current();
    };
    document.addEventListener("visibilitychange", onVisibilityChange);
    return () => document.removeEventListener("visibilitychange", onVisibilityChange);
  }, []);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setErrorMessage(undefined);
    const { error } = await client.mutation(SignInDocument, { username, password }, UNKEPT);
    setBusy(false);
    if (error !== undefined) {
      setPassword("");
      setErrorMessage(failureOf(error).message);
      return;
    }
    navigate(pathAfterSignIn(search), { replace: true, tenant: null });
    restart();
  };
  return (
    <main class="sign-in">
      <h1>Sign in to Keymark</h1>
      {sessionEnded && <p role="status">Your session has ended. Sign in again to continue.</p>}
      <form onSubmit={submit}>
        <Field
          label="Username"
          value={username}
          onInput={setUsername}
          autoComplete="username"
          autoFocus
        />
        <Field
          label="Password"
          type="password"
          value={password}
          onInput={setPassword}
          autoComplete="current-password"
          error={errorMessage}
        />
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>
            Sign in
          </button>
        </div>
      </form>
    </main>
  );
}
