import { useEffect, useRef } from "preact/hooks";
import { Failed } from "./components/failed";
import { Loading } from "./components/loading";
import { TopBar } from "./components/top-bar";
import { ViewerDocument } from "./gql/graphql";
import { LiveChanges } from "./live/live-changes";
import { useLiveViewer } from "./live/live-viewer";
import { useObserved } from "./live/observed";
import { useLiveQuery } from "./live/use-live-query";
import { Page } from "./pages/page";
import { SignInPage } from "./pages/sign-in-page";
import { Redirect, usePlace } from "./router";
import { addressAfterSignIn, routeOf, SIGN_IN, signInAddress } from "./routes";
import { useSession } from "./session/session-context";
import { useMay, ViewerContext } from "./session/viewer-context";

/** Signing in first; the pages after. */
export function Console() {
  const { path, search } = usePlace();
  const { liveness } = useSession();
  const { state } = useObserved(liveness);
  const [{ data, error }, execute] = useLiveQuery(ViewerDocument, {});
  const wasSignedIn = useRef(false);
  useEffect(() => {
    if (state === "ended") execute({ requestPolicy: "network-only" });
  }, [state, execute]);

  if (!data) {
    if (error === undefined) return <Loading />;
    return <Failed error={error} onRetry={() => execute({ requestPolicy: "network-only" })} />;
  }
  if (data.viewer === null) {
    if (path === SIGN_IN) return <SignInPage sessionEnded={wasSignedIn.current} />;
    return <Redirect to={signInAddress(path + location.search)} />;
  }
  wasSignedIn.current = true;
  if (path === SIGN_IN) return <Redirect to={addressAfterSignIn(search)} />;
  return (
    <ViewerContext.Provider value={data.viewer}>
      <TopBar />
      <main>
        <SignedIn path={path} />
      </main>
    </ViewerContext.Provider>
  );
}

function SignedIn({ path }: { path: string }) {
  useLiveViewer();
  const page = <Page route={routeOf(path)} />;
  return useMay("view") ? <LiveChanges>{page}</LiveChanges> : page;
}
