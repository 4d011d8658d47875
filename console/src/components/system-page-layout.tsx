import type { AuditEntryPartsFragment, SystemPartsFragment } from "@keymark/client/documents";
import type { ComponentChildren } from "preact";
import { useLiveSystem } from "../live/use-live-system";
import { Link } from "../router";
import { auditPath, SYSTEMS, systemPath } from "../routes";
import { useMay } from "../session/viewer-context";
import { LoadError } from "./load-error";
import { MissingPermission } from "./missing-permission";
import { Name } from "./name";
import { PageHeading } from "./page-heading";
import { Skeleton } from "./skeleton";

export interface LoadedSystem {
  system: SystemPartsFragment;
  /** The audit entries since the page was opened; undefined until the earlier ones can be queried without a gap. */
  entries: readonly AuditEntryPartsFragment[] | undefined;
}

interface SystemPageLayoutProps {
  id: string;
  title: string;
  /** Whether System Detail is a breadcrumb of the page. */
  isSubpage?: boolean;
  /** False if a field of the page takes the focus instead of the heading. */
  focus?: boolean;
  /** The system that this page is deleting, still shown once it is deleted. */
  deleting?: SystemPartsFragment | undefined;
  /** Shown above the content, also when the system does not exist. */
  notice?: ComponentChildren;
  children: (loaded: LoadedSystem) => ComponentChildren;
}

/** A page about one system, or the reason why it cannot be shown. */
export function SystemPageLayout(props: SystemPageLayoutProps) {
  const { id, title, isSubpage, focus, deleting, notice, children } = props;
  const { system, lastSeen, entries, error, ready, refetch } = useLiveSystem(id);
  const mayView = useMay("view");
  const shown = system ?? deleting;
  const missing = system === null && deleting === undefined;
  const trail = isSubpage && !missing ? [{ name: "System Detail", path: systemPath(id) }] : [];

  const content = () => {
    if (shown) return children({ system: shown, entries: ready ? entries : undefined });
    if (missing) {
      return lastSeen === undefined ? (
        <UnknownSystem id={id} />
      ) : (
        <DeletedSystem system={lastSeen} entries={entries} />
      );
    }
    if (!mayView) return <MissingPermission action="view" />;
    if (error !== undefined) return <LoadError error={error} onRetry={refetch} />;
    return <Skeleton lines={4} />;
  };
  return (
    <>
      <PageHeading
        title={missing ? (lastSeen ? "System deleted" : "Page not found") : title}
        subject={shown?.name ?? (missing ? lastSeen?.name : undefined)}
        trail={trail}
        {...(focus === undefined ? {} : { focus })}
      />
      {notice}
      {content()}
    </>
  );
}

function UnknownSystem({ id }: { id: string }) {
  return (
    <section class="empty">
      <h2>This system does not exist.</h2>
      <p>It may have been deleted, or the address may be wrong.</p>
      <p>
        <Link to={SYSTEMS}>Go to API Key Management</Link> or look for{" "}
        <Link to={auditPath({ systemId: id })}>its entries in the Audit Log</Link>.
      </p>
    </section>
  );
}

interface DeletedSystemProps {
  system: SystemPartsFragment;
  entries: readonly AuditEntryPartsFragment[];
}

/** Shown when the system was deleted elsewhere while its page was open. */
function DeletedSystem({ system, entries }: DeletedSystemProps) {
  const deletion = entries.find(({ action }) => action === "SYSTEM_DELETED");
  return (
    <section class="empty" role="alert">
      <h2>
        <Name>{system.name}</Name> was deleted.
      </h2>
      <p>
        {deletion && (
          <>
            It was deleted by <Name>{deletion.actor.name}</Name>.{" "}
          </>
        )}
        {system.keyMark !== null && "Its key was revoked with it."}
      </p>
      <p>
        <Link to={SYSTEMS}>Go to API Key Management</Link> or read{" "}
        <Link to={auditPath({ systemId: system.id })}>its entries in the Audit Log</Link>.
      </p>
    </section>
  );
}
