import type { SessionPartsFragment } from "@keymark/client/documents";
import { browserText } from "../text/user-agent";
import { EndText } from "./end-text";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

interface SessionTableProps {
  label: string;
  sessions: readonly SessionPartsFragment[];
  /** Ends a session; undefined if the operator may not. */
  onEnd: ((session: SessionPartsFragment) => void) | undefined;
}

/** Where an operator is signed in. The session of this page is marked, and is ended by signing out. */
export const SessionTable = ({ label, sessions, onEnd }: SessionTableProps) => (
  <table class="cards sessions" aria-label={label}>
    <thead>
      <tr>
        <th scope="col">Browser</th>
        <th scope="col">Network</th>
        <th scope="col">Started</th>
        <th scope="col">Last Active</th>
        <th scope="col">Ends</th>
        <td />
      </tr>
    </thead>
    <tbody>
      {sessions.map((session) => (
        <tr key={session.id}>
          <th scope="row">
            <Name>{browserText(session.userAgent)}</Name>
          </th>
          <td data-label="Network">{session.network ?? "Unknown"}</td>
          <td data-label="Started">
            <TimeAgo time={session.startedAt} />
          </td>
          <td data-label="Last active">
            <TimeAgo time={session.lastActiveAt} />
          </td>
          <td data-label="Ends">
            <EndText time={session.expiresAt} />
          </td>
          <td>
            {session.isCurrent ? (
              <span class="badge neutral">This session</span>
            ) : (
              onEnd && (
                <button type="button" class="small" onClick={() => onEnd(session)}>
                  End
                  <span class="visually-hidden">
                    {" "}
                    the session of {browserText(session.userAgent)}
                  </span>
                </button>
              )
            )}
          </td>
        </tr>
      ))}
    </tbody>
  </table>
);
