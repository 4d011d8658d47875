import { ViewerDocument } from "@keymark/client/documents";
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { AdministrationNav, isAdministration } from "./components/administration-nav";
import { LoadError } from "./components/load-error";
import { Skeleton } from "./components/skeleton";
import { CONTENT, SkipLink } from "./components/skip-link";
import { TopBar } from "./components/top-bar";
import { useObservable } from "./live/observable";
import { useLiveQuery } from "./live/use-live-query";
import { useLiveViewer } from "./live/use-live-viewer";
import { ChangePasswordPage } from "./pages/change-password-page";
import { Page } from "./pages/page";
import { RefusedTenantPage } from "./pages/refused-tenant-page";
import { SignInPage } from "./pages/sign-in-page";
import { Redirect, useLocation } from "./router";
import { inTenant, pathAfterSignIn, routeOf, SIGN_IN, signInPath } from "./routes";
import { useSession } from "./session/session-context";
import { ViewerContext } from "./session/viewer-context";
import { failureOf } from "./text/failures";

interface ConsoleProps {
  /** Whether an operator was signed in since the last restart. Set by the console, and kept when the tenant changes. */
  wasSignedIn: RefObject<boolean>;
}

/** Shows the sign-in page until an operator is signed in, then the pages. */
export function Console({ wasSignedIn }: ConsoleProps) {
  const { tenant, path, search } = useLocation();
  const [{ data, error }, execute] = useLiveQuery(ViewerDocument, {});
  const viewerId = data?.viewer?.id;
  const refetch = () => execute({ requestPolicy: "network-only" });
  useSessionEnd(viewerId, refetch);

  if (!data) {
    const failure = error && failureOf(error, "other");
    if (tenant !== undefined && (failure?.code === "FORBIDDEN" || failure?.code === "NOT_FOUND")) {
      return <RefusedTenantPage tenant={tenant} message={failure.message} />;
    }
    return (
      <main>
        {error === undefined ? (
          <Skeleton lines={3} />
        ) : (
          <LoadError error={error} onRetry={refetch} />
        )}
      </main>
    );
  }
  if (data.viewer === null) {
    if (path === SIGN_IN) {
      return <SignInPage sessionEnded={wasSignedIn.current} onSignedInElsewhere={refetch} />;
    }
    return <Redirect to={signInPath(inTenant(tenant, path) + location.search)} />;
  }
  wasSignedIn.current = true;
  if (path === SIGN_IN) return <Redirect to={pathAfterSignIn(search)} />;
  return (
    <ViewerContext.Provider value={data.viewer}>
      {data.viewer.mustChangePassword ? <ChangePasswordPage /> : <SignedIn path={path} />}
    </ViewerContext.Provider>
  );
}

/** Refetches the viewer when the server ends the session, and restarts the session if it is another operator. */
function useSessionEnd(viewerId: string | undefined, refetch: () => void) {
  const { connection, changingPassword, restart } = useSession();
  const { state } = useObservable(connection);
  const isChangingPassword = useObservable(changingPassword);
  const ended = state === "ended" && !isChangingPassword;
  const latestRefetch = useRef(refetch);
  latestRefetch.current = refetch;
  useEffect(() => {
    if (ended) latestRefetch.current();
  }, [ended]);
  const firstViewerId = useRef<string>(undefined);
  useEffect(() => {
    if (viewerId === undefined) return;
    firstViewerId.current ??= viewerId;
    if (firstViewerId.current !== viewerId) restart();
  }, [viewerId, restart]);
}

function SignedIn({ path }: { path: string }) {
  useLiveViewer();
  const route = routeOf(path);
  return (
    <>
      <SkipLink />
      <TopBar path={path} />
      <main id={CONTENT} tabIndex={-1}>
        {isAdministration(route.page) && <AdministrationNav current={route.page} />}
        <Page route={route} />
      </main>
    </>
  );
}
