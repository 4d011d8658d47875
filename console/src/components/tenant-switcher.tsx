import { TenantNamesDocument, type TenantPartsFragment } from "@keymark/client/documents";
import { useClient, useQuery } from "@urql/preact";
import type { TargetedSubmitEvent } from "preact";
import { useRef, useState } from "preact/hooks";
import { Link, navigate, useLocation } from "../router";
import { pathInOtherTenant } from "../routes";
import { useSession } from "../session/session-context";
import { useViewer } from "../session/viewer-context";
import { failureOf } from "../text/failures";
import { keyGuard } from "./key-guard";
import { LoadError } from "./load-error";
import { Name } from "./name";
import { Skeleton } from "./skeleton";
import { useArrowKeys } from "./use-arrow-keys";
import { useDebounced } from "./use-debounced";
import { useHideOnNavigation } from "./use-hide-on-navigation";

const MENU = "tenant-menu";
const PAGE_SIZE = 20;
const MAX_PAGE_SIZE = 200;
const DEBOUNCE_MS = 150;

/** The tenant that the pages are about, with a menu to go to another one. */
export function TenantSwitcher({ tenant }: { tenant: TenantPartsFragment | undefined }) {
  const { tenant: inUrl } = useSession();
  const { tenantId } = useViewer();
  const menu = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  useHideOnNavigation(menu, open);
  useArrowKeys(menu);
  const name = tenant?.name ?? inUrl ?? tenantId;
  return (
    <div class="tenant-switcher">
      <button
        type="button"
        class="plain"
        popovertarget={MENU}
        aria-expanded={open}
        aria-label={`Tenant: ${name}. Switch tenant`}
      >
        <span class="current-tenant">
          <Name>{name}</Name>
        </span>
      </button>
      <div
        ref={menu}
        id={MENU}
        popover="auto"
        class="menu"
        onBeforeToggle={({ newState }) => newState === "open" && setOpen(true)}
        // Not before: the focus returns to the button only from a control that is still there.
        onToggle={({ newState }) => newState === "closed" && setOpen(false)}
      >
        {open && <TenantSearch current={inUrl ?? tenantId} />}
      </div>
    </div>
  );
}

/** Finds tenants by their id or name. Enter goes to the one with this id, or to the only one that matches. */
function TenantSearch({ current }: { current: string }) {
  const client = useClient();
  const { path } = useLocation();
  const { tenantId } = useViewer();
  const [typed, setTyped] = useState("");
  const [message, setMessage] = useState<string>();
  const search = useDebounced(typed, DEBOUNCE_MS);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    const text = typed.trim();
    if (text === "") return;
    const { data, error } = await client.query(
      TenantNamesDocument,
      { search: text, first: MAX_PAGE_SIZE },
      { requestPolicy: "network-only" },
    );
    const found = data?.tenants.nodes ?? [];
    const chosen = found.find(({ id }) => id === text) ?? (found.length === 1 ? found[0] : null);
    if (error) setMessage(failureOf(error, "other").message);
    else if (found.length === 0) setMessage(`No tenant matches “${text}”.`);
    else if (!chosen) setMessage("Several tenants match. Choose one, or type its id.");
    else navigate(pathInOtherTenant(path), { tenant: chosen.id === tenantId ? null : chosen.id });
  };
  return (
    <search>
      <form onSubmit={submit} noValidate>
        <input
          type="search"
          aria-label="Search tenants"
          placeholder="Search tenants"
          autofocus
          autoComplete="off"
          spellcheck={false}
          dir="auto"
          value={typed}
          {...keyGuard({
            value: typed,
            onKey: () => setMessage("This is an API key, and was removed."),
            onText(text) {
              setMessage(undefined);
              setTyped(text);
            },
          })}
        />
      </form>
      <div class="error" role="alert">
        {message}
      </div>
      <ul class="tenant-options" aria-label="Tenants">
        <TenantOptions search={search.trim()} current={current} />
      </ul>
    </search>
  );
}

interface TenantOptionsProps {
  search: string;
  after?: string;
  /** The id of the tenant that the pages are about. */
  current: string;
}

/**
 * A page of tenants and, on request, the pages after it. Without a key per search, so that a tenant which is also in the
 * next result keeps the focus.
 */
function TenantOptions({ search, after, current }: TenantOptionsProps) {
  const { path } = useLocation();
  const { tenantId } = useViewer();
  const [openSearch, setOpenSearch] = useState<string>();
  const isOpen = openSearch === search;
  const [{ data, error }, execute] = useQuery({
    query: TenantNamesDocument,
    variables: { search, first: PAGE_SIZE, ...(after === undefined ? {} : { after }) },
    requestPolicy: "cache-and-network",
  });
  if (!data) {
    const retry = () => execute({ requestPolicy: "network-only" });
    return (
      <li>
        {error === undefined ? <Skeleton lines={3} /> : <LoadError error={error} onRetry={retry} />}
      </li>
    );
  }
  const { nodes, pageInfo } = data.tenants;
  return (
    <>
      {nodes.map(({ id, name, suspendedAt }) => (
        <li key={id}>
          <Link
            to={pathInOtherTenant(path)}
            tenant={id === tenantId ? null : id}
            aria-current={id === current ? "true" : undefined}
          >
            <Name>{name}</Name>
            {name !== id && <span class="quiet"> {id}</span>}
            {id === tenantId && <span class="badge">Your own</span>}
            {suspendedAt !== null && <span class="badge caution">Suspended</span>}
          </Link>
        </li>
      ))}
      {nodes.length === 0 && <li class="quiet">No tenant matches.</li>}
      {pageInfo.hasNextPage && pageInfo.endCursor !== null && isOpen && (
        <TenantOptions search={search} after={pageInfo.endCursor} current={current} />
      )}
      {pageInfo.hasNextPage && !isOpen && (
        <li>
          <button type="button" class="plain" onClick={() => setOpenSearch(search)}>
            Show more
          </button>
        </li>
      )}
    </>
  );
}
