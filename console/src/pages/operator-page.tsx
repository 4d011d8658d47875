import {
  type EnforcementPartsFragment,
  type OperatorPartsFragment,
  OperatorSessionsDocument,
  type OperatorSessionsQuery,
  type OperatorSessionsQueryVariables,
  type SessionPartsFragment,
} from "@keymark/client/documents";
import type { Client, OperationResult } from "@urql/core";
import { useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { ChangeCodesDialog } from "../components/change-codes-dialog";
import { CodesList } from "../components/codes-list";
import { EndSessionsDialog } from "../components/end-sessions-dialog";
import { EnforcementStatus } from "../components/enforcement-status";
import { GeneratedKeys, GeneratedKeysLink } from "../components/generated-keys";
import { LoadError } from "../components/load-error";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { type NewPassword, NewPasswordDialog } from "../components/new-password-dialog";
import { Notice } from "../components/notice";
import { OperatorBadges } from "../components/operator-badges";
import { type OperatorAction, OperatorDialog } from "../components/operator-dialog";
import { focusHeading, PageHeading } from "../components/page-heading";
import { ResetPasswordDialog } from "../components/reset-password-dialog";
import { SessionTable } from "../components/session-table";
import { Skeleton } from "../components/skeleton";
import { TimeAgo } from "../components/time-ago";
import { OPERATOR_CHANGES } from "../live/actions";
import { useList } from "../live/use-list";
import { Link, navigate, useLocation } from "../router";
import { auditPath, OPERATORS } from "../routes";
import { useSession } from "../session/session-context";
import { useMay, useViewer } from "../session/viewer-context";
import { browserText } from "../text/user-agent";

type ShownOperator = OperatorSessionsQuery["operators"]["nodes"][number];

type OpenDialog =
  | { kind: OperatorAction | "codes" | "reset" | "end-all"; operator: ShownOperator }
  | { kind: "end"; operator: ShownOperator; session: SessionPartsFragment };

export function OperatorPage({ username }: { username: string }) {
  const { notice: arrival } = useLocation();
  const mayView = useMay("view-operators");
  const mayEdit = useMay("edit-operators");
  const [notice, setNotice] = useState<ComponentChildren>();
  const [dialog, setDialog] = useState<OpenDialog>();
  const [newPassword, setNewPassword] = useState<NewPassword>();
  // The button that opened the dialog may be gone by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <PageHeading
        title="Operator"
        subject={username}
        parent={{ name: "Operators", path: OPERATORS }}
      />
      <Notice>{notice ?? arrival}</Notice>
      {mayView ? (
        <LoadedOperator username={username} onOpen={mayEdit ? setDialog : undefined} />
      ) : (
        <MissingPermission action="view-operators" />
      )}
      {mayEdit && dialog && (
        <OpenedDialog
          key={dialog.kind}
          dialog={dialog}
          onClose={() => setDialog(undefined)}
          onNewPassword={(reset) => {
            setNotice(undefined);
            setNewPassword(reset);
          }}
          onNotice={setNotice}
        />
      )}
      {/* Shown whatever the operator may by now: the password cannot be shown again. */}
      {newPassword && (
        <NewPasswordDialog
          newPassword={newPassword}
          onClose={() => {
            setNewPassword(undefined);
            setNotice("The password was reset.");
          }}
        />
      )}
    </>
  );
}

interface LoadedOperatorProps {
  username: string;
  /** Undefined if the signed-in operator may not change others. */
  onOpen: ((dialog: OpenDialog) => void) | undefined;
}

function LoadedOperator({ username, onOpen }: LoadedOperatorProps) {
  const client = useClient();
  const { rows, error, reload } = useList({
    search: username,
    actions: OPERATOR_CHANGES,
    async load() {
      const { operator, error: failure } = await findOperator(client, username);
      if (failure !== undefined) return { page: undefined, error: failure };
      const nodes = operator === undefined ? [] : [operator];
      const pageInfo = { hasNextPage: false, endCursor: null };
      return { page: { nodes, pageInfo, totalCount: nodes.length }, error: undefined };
    },
  });
  const lastSeen = useRef<ShownOperator>(undefined);
  const operator = rows?.[0];
  if (operator) lastSeen.current = operator;
  if (operator) return <Details operator={operator} onOpen={onOpen} />;
  if (rows !== undefined) return <UnknownOperator lastSeen={lastSeen.current} />;
  return error === undefined ? (
    <Skeleton lines={6} />
  ) : (
    <LoadError error={error} onRetry={reload} />
  );
}

/** Finds an operator among those whose usernames contain the text. */
async function findOperator(client: Client, username: string) {
  let after: string | null = null;
  for (;;) {
    const variables: OperatorSessionsQueryVariables = { search: username, after };
    const { data, error }: OperationResult<OperatorSessionsQuery> = await client.query(
      OperatorSessionsDocument,
      variables,
      { requestPolicy: "network-only" },
    );
    if (!data) return { operator: undefined, error };
    const { nodes, pageInfo } = data.operators;
    const operator = nodes.find((found) => found.username === username);
    after = pageInfo.endCursor;
    if (operator !== undefined || !pageInfo.hasNextPage || after === null) {
      return { operator, error: undefined };
    }
  }
}

function UnknownOperator({ lastSeen }: { lastSeen: OperatorPartsFragment | undefined }) {
  return (
    <section class="empty" role="alert">
      <h2>{lastSeen ? "This operator was removed." : "There is no such operator."}</h2>
      <p>
        <Link to={OPERATORS}>Go to Operators</Link>
      </p>
      {lastSeen && (
        <p>
          <GeneratedKeysLink operator={lastSeen} />
        </p>
      )}
    </section>
  );
}

interface DetailsProps {
  operator: ShownOperator;
  onOpen: LoadedOperatorProps["onOpen"];
}

function Details({ operator, onOpen }: DetailsProps) {
  const mayViewLog = useMay("view");
  const { sessions } = operator;
  return (
    <>
      <dl class="facts">
        <div>
          <dt>Username</dt>
          <dd>
            <Name>{operator.username}</Name> <OperatorBadges operator={operator} />
          </dd>
        </div>
        <div>
          <dt>Last Active</dt>
          <dd>
            {operator.lastActiveAt === null ? (
              "Never"
            ) : (
              <TimeAgo time={operator.lastActiveAt} exact="beside" />
            )}
          </dd>
        </div>
        <div>
          <dt>Added</dt>
          <dd>
            <TimeAgo time={operator.createdAt} exact="beside" />
          </dd>
        </div>
        <div class="wide">
          <dt>Permission Codes</dt>
          <dd>
            <CodesList codes={operator.permissions} />
          </dd>
        </div>
      </dl>
      {onOpen && <Actions operator={operator} onOpen={onOpen} />}
      <section class="trail">
        <h2>Keys and actions</h2>
        <GeneratedKeys operator={operator} />
        {mayViewLog && (
          <p>
            <Link to={auditPath({ actorId: operator.id })}>What they did, in the Audit Log</Link>
          </p>
        )}
      </section>
      <section class="trail">
        <div class="section-heading">
          <h2>Sessions</h2>
          {onOpen && sessions.length > 0 && (
            <button
              type="button"
              class="small danger"
              onClick={() => onOpen({ kind: "end-all", operator })}
            >
              End all sessions
            </button>
          )}
        </div>
        {sessions.length === 0 ? (
          <p class="quiet">They are not signed in.</p>
        ) : (
          <SessionTable
            label="Sessions"
            sessions={sessions}
            onEnd={onOpen && ((session) => onOpen({ kind: "end", operator, session }))}
          />
        )}
      </section>
    </>
  );
}

interface ActionsProps {
  operator: ShownOperator;
  onOpen: (dialog: OpenDialog) => void;
}

function Actions({ operator, onOpen }: ActionsProps) {
  const viewer = useViewer();
  return (
    <div class="actions">
      <button type="button" class="primary" onClick={() => onOpen({ kind: "codes", operator })}>
        Change codes
      </button>
      {/* One's own is changed in the menu: resetting it would end the session that shows it. */}
      {operator.id !== viewer.id && (
        <button type="button" onClick={() => onOpen({ kind: "reset", operator })}>
          Reset password
        </button>
      )}
      {operator.suspendedAt === null ? (
        <button type="button" class="danger" onClick={() => onOpen({ kind: "suspend", operator })}>
          Suspend
        </button>
      ) : (
        <button type="button" onClick={() => onOpen({ kind: "resume", operator })}>
          Resume
        </button>
      )}
      <button type="button" class="danger" onClick={() => onOpen({ kind: "remove", operator })}>
        Remove operator
      </button>
    </div>
  );
}

interface OpenedDialogProps {
  dialog: OpenDialog;
  onClose: () => void;
  onNewPassword: (newPassword: NewPassword) => void;
  onNotice: (notice: ComponentChildren) => void;
}

function OpenedDialog({ dialog, onClose, onNewPassword, onNotice }: OpenedDialogProps) {
  const { operator } = dialog;
  const { refetchAll } = useSession();
  const done = (text: ComponentChildren, enforcement: EnforcementPartsFragment) => {
    onClose();
    refetchAll();
    onNotice(
      <>
        {text} <EnforcementStatus verdict="applied" enforcement={enforcement} />
      </>,
    );
  };
  const ended = (count: number, enforcement: EnforcementPartsFragment) =>
    done(count === 1 ? "1 session was ended." : `${count} sessions were ended.`, enforcement);
  const name = (
    <strong>
      <Name>{operator.username}</Name>
    </strong>
  );
  switch (dialog.kind) {
    case "codes":
      return (
        <ChangeCodesDialog
          operator={operator}
          onCancel={onClose}
          onChanged={(enforcement) => done("The permission codes were changed.", enforcement)}
        />
      );
    case "reset":
      return (
        <ResetPasswordDialog
          operator={operator}
          onCancel={onClose}
          onReset={(newPassword) => {
            onClose();
            refetchAll();
            onNewPassword(newPassword);
          }}
        />
      );
    case "end":
      return (
        <EndSessionsDialog
          title="End Session"
          effect="end the session"
          variables={{ sessionId: dialog.session.id }}
          onEnded={ended}
          onCancel={onClose}
        >
          <p>
            {name} is signed out of <Name>{browserText(dialog.session.userAgent)}</Name>, and can
            sign in again.
          </p>
        </EndSessionsDialog>
      );
    case "end-all":
      return (
        <EndSessionsDialog
          title="End All Sessions"
          effect="end all sessions"
          variables={{ operatorId: operator.id }}
          onEnded={ended}
          onCancel={onClose}
        >
          <p>
            {name} is signed out everywhere, and can sign in again. Suspend them to prevent that.
          </p>
        </EndSessionsDialog>
      );
    case "remove":
      return (
        <OperatorDialog
          action="remove"
          operator={operator}
          onCancel={onClose}
          onDone={(enforcement) => {
            const notice = (
              <>
                {name} was removed.{" "}
                <EnforcementStatus verdict="applied" enforcement={enforcement} />{" "}
                <GeneratedKeysLink operator={operator} />
              </>
            );
            navigate(OPERATORS, { replace: true, notice });
          }}
        />
      );
    case "suspend":
    case "resume":
      return (
        <OperatorDialog
          action={dialog.kind}
          operator={operator}
          onCancel={onClose}
          onDone={(enforcement) =>
            done(
              <>
                {name} was {dialog.kind === "suspend" ? "suspended" : "resumed"}.
              </>,
              enforcement,
            )
          }
        />
      );
  }
}
