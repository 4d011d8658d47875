import type { ComponentChildren } from "preact";
import { useTick } from "../live/now";
import { EndText } from "./end-text";
import { KeyMark } from "./key-mark";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

export interface TokenRow {
  id: string;
  name: string;
  mark: string;
  createdAt: string;
  createdBy: { name: string };
  expiresAt: string | null;
  lastUsedAt: string | null;
}

interface TokenTableProps<Token extends TokenRow> {
  label: string;
  tokens: readonly Token[];
  /** The heading of the column that says what a token allows. */
  scopeLabel: string;
  scope: (token: Token) => ComponentChildren;
  /** The buttons of a row. */
  actions: (token: Token) => ComponentChildren;
}

export function TokenTable<Token extends TokenRow>(props: TokenTableProps<Token>) {
  const { label, tokens, scopeLabel, scope, actions } = props;
  return (
    <table class="cards tokens" aria-label={label}>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Mark</th>
          <th scope="col">{scopeLabel}</th>
          <th scope="col">Expires</th>
          <th scope="col">Last Used</th>
          <th scope="col">Created</th>
          <td />
        </tr>
      </thead>
      <tbody>
        {tokens.map((token) => (
          <tr key={token.id}>
            <th scope="row">
              <Name>{token.name}</Name> <ExpiredBadge expiresAt={token.expiresAt} />
            </th>
            <td data-label="Mark">
              <KeyMark mark={token.mark} />
            </td>
            <td data-label={scopeLabel}>{scope(token)}</td>
            <td data-label="Expires">
              <EndText time={token.expiresAt} />
            </td>
            <td data-label="Last used">
              {token.lastUsedAt === null ? (
                <span class="quiet">Never</span>
              ) : (
                <TimeAgo time={token.lastUsedAt} />
              )}
            </td>
            <td data-label="Created">
              <TimeAgo time={token.createdAt} /> by <Name>{token.createdBy.name}</Name>
            </td>
            <td class="row-actions">{actions(token)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function ExpiredBadge({ expiresAt }: { expiresAt: string | null }) {
  const isExpired = (now: Date) => expiresAt !== null && new Date(expiresAt) <= now;
  useTick((now) => String(isExpired(now)));
  return isExpired(new Date()) ? <span class="badge alarm">Expired</span> : null;
}
