import type { OperatorPartsFragment } from "@keymark/client/documents";
import { Link } from "../router";
import { operatorPath } from "../routes";
import { codesText } from "../text/permissions";
import { shortTime } from "../text/time";
import { Name } from "./name";
import { OperatorBadges } from "./operator-badges";
import { TimeAgo } from "./time-ago";

export const OperatorTable = ({ operators }: { operators: readonly OperatorPartsFragment[] }) => (
  <table class="cards operators" aria-label="Operators">
    <thead>
      <tr>
        <th scope="col">Username</th>
        <th scope="col">Permission Codes</th>
        <th scope="col">Last Active</th>
        <th scope="col">Added</th>
        <td />
      </tr>
    </thead>
    <tbody>
      {operators.map((operator) => (
        <tr key={operator.id} data-times={timesOf(operator)}>
          <th scope="row">
            <Name>{operator.username}</Name> <OperatorBadges operator={operator} />
          </th>
          <td data-label="Codes">{codesText(operator.permissions)}</td>
          <td data-label="Last active">
            {operator.lastActiveAt === null ? (
              <span class="quiet">Never</span>
            ) : (
              <TimeAgo time={operator.lastActiveAt} exact="in row" />
            )}
          </td>
          <td data-label="Added">
            <TimeAgo time={operator.createdAt} exact="in row" />
          </td>
          <td>
            <Link to={operatorPath(operator.username)} class="view">
              View<span class="visually-hidden"> {operator.username}</span>
            </Link>
          </td>
        </tr>
      ))}
    </tbody>
  </table>
);

const exact = (time: string) => shortTime(new Date(time));

const timesOf = ({ lastActiveAt, createdAt }: OperatorPartsFragment): string =>
  `${lastActiveAt === null ? "" : `Last active ${exact(lastActiveAt)}\n`}Added ${exact(createdAt)}`;
