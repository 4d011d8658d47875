import { useClient } from "@urql/preact";
import { useState } from "preact/hooks";
import { SignOutDocument } from "../gql/graphql";
import { Link, navigate } from "../router";
import { SIGN_IN, SYSTEMS } from "../routes";
import { useSession } from "../session/session-context";
import { useViewer } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { LiveDot } from "./live-dot";

export function TopBar() {
  const { username, tenantId } = useViewer();
  return (
    <header class="top-bar">
      <Link to={SYSTEMS} class="brand">
        Keymark
      </Link>
      <LiveDot />
      <span class="operator">
        <span class="quiet">Signed in as</span> {username} <span class="quiet">of</span> {tenantId}
      </span>
      <SignOut />
    </header>
  );
}

function SignOut() {
  const client = useClient();
  const { restart } = useSession();
  const [failed, setFailed] = useState<string>();
  const signOut = async () => {
    const { error } = await client.mutation(SignOutDocument, {});
    const failure = error && failureOf(error);
    if (failure !== undefined && failure.code !== "UNAUTHENTICATED") {
      setFailed(failure.words);
      return;
    }
    navigate(SIGN_IN, { replace: true });
    restart();
  };
  return (
    <>
      {failed && <span role="alert">{failed}</span>}
      <button type="button" class="plain" onClick={signOut}>
        Sign out
      </button>
    </>
  );
}
