import { Link } from "../router";

interface OverviewCountProps {
  /** What is counted, in the plural. */
  label: string;
  /** Undefined while it is counted. */
  count: number | undefined;
  /** The page that lists what is counted. */
  to: string;
}

const format = new Intl.NumberFormat();

/** A number of the overview, which links to what it counts. */
export const OverviewCount = ({ label, count, to }: OverviewCountProps) => (
  <li>
    <Link to={to}>{label}</Link>
    <span class="count" role="status">
      {count !== undefined && format.format(count)}
    </span>
  </li>
);
