import { useEffect, useRef } from "preact/hooks";
import { Failed } from "./components/failed";
import { Skeleton } from "./components/skeleton";
import { CONTENT, SkipLink } from "./components/skip-link";
import { TopBar } from "./components/top-bar";
import { ViewerDocument } from "./gql/graphql";
import { useLiveViewer } from "./live/live-viewer";
import { useObserved } from "./live/observed";
import { useLiveQuery } from "./live/use-live-query";
import { Page } from "./pages/page";
import { SignInPage } from "./pages/sign-in-page";
import { Redirect, usePlace } from "./router";
import { addressAfterSignIn, routeOf, SIGN_IN, signInAddress } from "./routes";
import { useSession } from "./session/session-context";
import { ViewerContext } from "./session/viewer-context";

/** Signing in first; the pages after. */
export function Console() {
  const { path, search } = usePlace();
  const [{ data, error }, execute] = useLiveQuery(ViewerDocument, {});
  const viewerId = data?.viewer?.id;
  const readAgain = () => execute({ requestPolicy: "network-only" });
  useEndOfSession(viewerId, readAgain);
  const wasSignedIn = useRef(false);

  if (!data) {
    return (
      <main>
        {error === undefined ? (
          <Skeleton lines={3} />
        ) : (
          <Failed error={error} onRetry={readAgain} />
        )}
      </main>
    );
  }
  if (data.viewer === null) {
    if (path === SIGN_IN) {
      return <SignInPage sessionEnded={wasSignedIn.current} onSignedInElsewhere={readAgain} />;
    }
    return <Redirect to={signInAddress(path + location.search)} />;
  }
  wasSignedIn.current = true;
  if (path === SIGN_IN) return <Redirect to={addressAfterSignIn(search)} />;
  return (
    <ViewerContext.Provider value={data.viewer}>
      <SignedIn path={path} />
    </ViewerContext.Provider>
  );
}

/** Looks who is signed in when the server has ended the session; whoever else it is by then starts anew. */
function useEndOfSession(viewerId: string | undefined, readAgain: () => void) {
  const { liveness, renewing, restart } = useSession();
  const { state } = useObserved(liveness);
  const isRenewing = useObserved(renewing);
  const ended = state === "ended" && !isRenewing;
  const read = useRef(readAgain);
  read.current = readAgain;
  useEffect(() => {
    if (ended) read.current();
  }, [ended]);
  const first = useRef<string>(undefined);
  useEffect(() => {
    if (viewerId === undefined) return;
    first.current ??= viewerId;
    if (first.current !== viewerId) restart();
  }, [viewerId, restart]);
}

function SignedIn({ path }: { path: string }) {
  useLiveViewer();
  return (
    <>
      <SkipLink />
      <TopBar path={path} />
      <main id={CONTENT} tabIndex={-1}>
        <Page route={routeOf(path)} />
      </main>
    </>
  );
}
