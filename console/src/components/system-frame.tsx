import type { ComponentChildren } from "preact";
import type { AuditEntryPartsFragment, SystemPartsFragment } from "../gql/graphql";
import { useLiveSystem } from "../live/use-live-system";
import { Link } from "../router";
import { auditAddress, SYSTEMS, systemAddress } from "../routes";
import { useMay } from "../session/viewer-context";
import { Failed } from "./failed";
import { MissingPermission } from "./missing-permission";
import { Name } from "./name";
import { PageHeading } from "./page-heading";
import { Skeleton } from "./skeleton";

export interface SystemNow {
  system: SystemPartsFragment;
  /** The audit entries since the page was opened; undefined until those before can be read. */
  entries: readonly AuditEntryPartsFragment[] | undefined;
}

interface SystemFrameProps {
  id: string;
  title: string;
  /** Whether the page lies under System Detail. */
  below?: boolean;
  /** False where a field takes the focus instead of the heading. */
  focus?: boolean;
  /** Shown in place of its absence: the system that this page is about to delete. */
  leaving?: SystemPartsFragment | undefined;
  /** Said above all else, whatever becomes of the system. */
  notice?: ComponentChildren;
  children: (now: SystemNow) => ComponentChildren;
}

/** A page about one system, or why the system is not there to see. */
export function SystemFrame({ id, title, below, focus, leaving, ...rest }: SystemFrameProps) {
  const { notice, children } = rest;
  const { system, lastSeen, entries, error, ready, readAgain } = useLiveSystem(id);
  const mayView = useMay("view");
  const shown = system ?? leaving;
  const gone = system === null && leaving === undefined;
  const trail = below && !gone ? [{ name: "System Detail", address: systemAddress(id) }] : [];

  const content = () => {
    if (shown) return children({ system: shown, entries: ready ? entries : undefined });
    if (gone) {
      return lastSeen === undefined ? (
        <NoSuchSystem id={id} />
      ) : (
        <DeletedMeanwhile system={lastSeen} entries={entries} />
      );
    }
    if (!mayView) return <MissingPermission action="view" />;
    if (error !== undefined) return <Failed error={error} onRetry={readAgain} />;
    return <Skeleton lines={4} />;
  };
  return (
    <>
      <PageHeading
        title={gone ? (lastSeen ? "System deleted" : "Page not found") : title}
        trail={trail}
        {...(focus === undefined ? {} : { focus })}
      />
      {notice}
      {content()}
    </>
  );
}

function NoSuchSystem({ id }: { id: string }) {
  return (
    <section class="empty">
      <h2>There is no such system.</h2>
      <p>It may have been deleted, or the address is not right.</p>
      <p>
        <Link to={SYSTEMS}>Go to API Key Management</Link> or look for{" "}
        <Link to={auditAddress({ systemId: id })}>what the Audit Log has of it</Link>.
      </p>
    </section>
  );
}

interface DeletedMeanwhileProps {
  system: SystemPartsFragment;
  entries: readonly AuditEntryPartsFragment[];
}

function DeletedMeanwhile({ system, entries }: DeletedMeanwhileProps) {
  const deletion = entries.find(({ action }) => action === "SYSTEM_DELETED");
  return (
    <section class="empty" role="alert">
      <h2>
        <Name>{system.name}</Name> was deleted by somebody else.
      </h2>
      <p>
        {deletion && (
          <>
            It was <Name>{deletion.actor.name}</Name>.{" "}
          </>
        )}
        {system.keyState === "ACTIVE" && "Its key was revoked with it."}
      </p>
      <p>
        <Link to={SYSTEMS}>Go to API Key Management</Link> or read{" "}
        <Link to={auditAddress({ systemId: system.id })}>its entries in the Audit Log</Link>.
      </p>
    </section>
  );
}
