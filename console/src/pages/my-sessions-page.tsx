import { type SessionPartsFragment, ViewerSessionsDocument } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { CodesList } from "../components/codes-list";
import { EndSessionsDialog } from "../components/end-sessions-dialog";
import { EnforcementStatus } from "../components/enforcement-status";
import { LoadError } from "../components/load-error";
import { Name } from "../components/name";
import { Notice } from "../components/notice";
import { focusHeading, PageHeading } from "../components/page-heading";
import { SessionTable } from "../components/session-table";
import { Skeleton } from "../components/skeleton";
import { OPERATOR_CHANGES } from "../live/actions";
import { useChanges } from "../live/use-changes";
import { useLiveQuery } from "../live/use-live-query";
import { useViewer } from "../session/viewer-context";
import { browserText } from "../text/user-agent";

/** Where the signed-in operator is signed in, and what they may do. */
export function MySessionsPage() {
  const viewer = useViewer();
  const [notice, setNotice] = useState<ComponentChildren>();
  const [ending, setEnding] = useState<SessionPartsFragment | "others">();
  const ready = useChanges(OPERATOR_CHANGES, () => refetch());
  const [{ data, error }, execute] = useLiveQuery(
    ViewerSessionsDocument,
    {},
    ready ? "network-only" : "cache-only",
  );
  const refetch = () => execute({ requestPolicy: "network-only" });
  const sessions = data?.viewer?.sessions;
  // The button that opened the dialog is gone by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <PageHeading title="My sessions" />
      <Notice>{notice}</Notice>
      <dl class="facts">
        <div>
          <dt>Username</dt>
          <dd>
            <Name>{viewer.username}</Name>{" "}
            {viewer.isPlatform && <span class="badge neutral">Platform</span>}
          </dd>
        </div>
        <div>
          <dt>Tenant</dt>
          <dd>
            <Name>{viewer.tenantId}</Name>
            {viewer.isPlatform && <span class="exact">May act in every tenant</span>}
          </dd>
        </div>
        <div class="wide">
          <dt>Permission Codes</dt>
          <dd>
            <CodesList codes={viewer.permissions} />
          </dd>
        </div>
      </dl>
      <section class="trail">
        <div class="section-heading">
          <h2>Sessions</h2>
          {sessions?.some(({ isCurrent }) => !isCurrent) && (
            <button type="button" class="small danger" onClick={() => setEnding("others")}>
              End all other sessions
            </button>
          )}
        </div>
        <p class="advice">
          If you do not recognize a session, end it and change your password, which ends all others.
        </p>
        {sessions !== undefined ? (
          <SessionTable label="My sessions" sessions={sessions} onEnd={setEnding} />
        ) : error !== undefined ? (
          <LoadError error={error} onRetry={refetch} />
        ) : (
          <Skeleton lines={3} />
        )}
      </section>
      {ending !== undefined && (
        <EndSessionsDialog
          title={ending === "others" ? "End All Other Sessions" : "End Session"}
          effect={ending === "others" ? "end all other sessions" : "end the session"}
          variables={ending === "others" ? {} : { sessionId: ending.id }}
          onEnded={(ended, enforcement) => {
            setEnding(undefined);
            setNotice(
              <>
                {ended === 1 ? "1 session was ended." : `${ended} sessions were ended.`}{" "}
                <EnforcementStatus verdict="applied" enforcement={enforcement} />
              </>,
            );
            refetch();
          }}
          onCancel={() => setEnding(undefined)}
        >
          <p>
            {ending === "others" ? (
              "You are signed out everywhere but here."
            ) : (
              <>
                You are signed out of <Name>{browserText(ending.userAgent)}</Name>.
              </>
            )}
          </p>
        </EndSessionsDialog>
      )}
    </>
  );
}
