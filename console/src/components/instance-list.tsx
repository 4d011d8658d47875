import { InstancesDocument } from "@keymark/client/documents";
import { useEffect } from "preact/hooks";
import { now } from "../live/now";
import { useLiveQuery } from "../live/use-live-query";
import { INSTANCE_STATES } from "../text/instances";
import { LoadError } from "./load-error";
import { Skeleton } from "./skeleton";
import { TimeAgo } from "./time-ago";

/** The instances of Keymark and their state. No audit entry tells when it changes, so it is loaded now and then. */
export function InstanceList() {
  const [{ data, error }, execute] = useLiveQuery(InstancesDocument, {}, "network-only");
  useEffect(
    () =>
      now.observe(() => {
        if (document.visibilityState === "visible") execute({ requestPolicy: "network-only" });
      }),
    [execute],
  );
  return (
    <section aria-labelledby="instances">
      <h2 id="instances">Instances</h2>
      {data ? (
        <ul class="instances">
          {data.instances.map(({ id, isCurrent, state, renewedAt }) => (
            <li key={`${id} ${isCurrent} ${renewedAt}`}>
              <span class={state === "CACHED" ? undefined : "refused"}>
                {INSTANCE_STATES[state]}
              </span>
              {isCurrent && <span class="badge">Responds to you</span>}
              <span class="quiet">
                {id !== null && <span class="id">{id}</span>} Lease renewed{" "}
                <TimeAgo time={renewedAt} />
              </span>
            </li>
          ))}
        </ul>
      ) : error === undefined ? (
        <Skeleton lines={2} />
      ) : (
        <LoadError error={error} onRetry={() => execute({ requestPolicy: "network-only" })} />
      )}
    </section>
  );
}
