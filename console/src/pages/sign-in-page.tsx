import { useClient } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Field } from "../components/field";
import { SignInDocument } from "../gql/graphql";
import { navigate, usePlace } from "../router";
import { addressAfterSignIn } from "../routes";
import { useSession } from "../session/session-context";
import { failureOf } from "../text/failures";

interface SignInPageProps {
  sessionEnded: boolean;
  /** The cookie may have come by another tab: looks again. */
  onSignedInElsewhere: () => void;
}

export function SignInPage({ sessionEnded, onSignedInElsewhere }: SignInPageProps) {
  const client = useClient();
  const { restart } = useSession();
  const { search } = usePlace();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<string>();
  useLayoutEffect(() => {
    document.title = "Sign in – Keymark";
  }, []);
  const lookAgain = useRef(onSignedInElsewhere);
  lookAgain.current = onSignedInElsewhere;
  useEffect(() => {
    const look = () => {
      if (document.visibilityState === "visible") lookAgain.current();
    };
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    setBusy(true);
    setFailed(undefined);
    const { error } = await client.mutation(SignInDocument, { username, password });
    setBusy(false);
    if (error !== undefined) {
      setPassword("");
      setFailed(failureOf(error).words);
      return;
    }
    navigate(addressAfterSignIn(search), { replace: true });
    restart();
  };
  return (
    <main class="sign-in">
      <h1>Sign in to Keymark</h1>
      {sessionEnded && <p role="status">Your session has ended. Sign in again to go on.</p>}
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
          error={failed}
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
