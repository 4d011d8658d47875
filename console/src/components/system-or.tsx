import type { ComponentChildren } from "preact";
import { SystemDocument, type SystemPartsFragment } from "../gql/graphql";
import { useLiveQuery } from "../live/use-live-query";
import { Link } from "../router";
import { SYSTEMS } from "../routes";
import { Failed } from "./failed";
import { Loading } from "./loading";

interface SystemOrProps {
  id: string;
  /** Shown in place of its absence: the system that this page is about to delete. */
  leaving?: SystemPartsFragment | undefined;
  children: (system: SystemPartsFragment) => ComponentChildren;
}

/** A system, or why it is not there to see. */
export function SystemOr({ id, leaving, children }: SystemOrProps) {
  const [{ data, error }, execute] = useLiveQuery(SystemDocument, { id });
  if (!data) {
    if (error === undefined) return <Loading />;
    return <Failed error={error} onRetry={() => execute({ requestPolicy: "network-only" })} />;
  }
  const system = data.system ?? leaving;
  if (system !== undefined) return children(system);
  return (
    <p role="alert">
      There is no such system. It may have been deleted.{" "}
      <Link to={SYSTEMS}>Go to API Key Management</Link>
    </p>
  );
}
