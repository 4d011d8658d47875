import type { TenantsQuery } from "@keymark/client/documents";
import { useId, useState } from "preact/hooks";
import { Link } from "../router";
import { SYSTEMS } from "../routes";
import { useMay, useViewer } from "../session/viewer-context";
import { keyLifetimeText, sessionIdleText } from "../text/tenants";
import { Name } from "./name";
import { TimeAgo } from "./time-ago";

export type ListedTenant = TenantsQuery["tenants"]["nodes"][number];

export type TenantAction = "rename" | "policy" | "suspend" | "resume" | "delete";

interface TenantTableProps {
  tenants: readonly ListedTenant[];
  onAct: (action: TenantAction, tenant: ListedTenant) => void;
}

export const TenantTable = ({ tenants, onAct }: TenantTableProps) => (
  <table class="cards tenants" aria-label="Tenants">
    <thead>
      <tr>
        <th scope="col">Name</th>
        <th scope="col">ID</th>
        <th scope="col">Systems</th>
        <th scope="col">Created</th>
        <td />
        <td />
      </tr>
    </thead>
    <tbody>
      {tenants.map((tenant) => (
        <TenantRow key={tenant.id} tenant={tenant} onAct={(action) => onAct(action, tenant)} />
      ))}
    </tbody>
  </table>
);

interface TenantRowProps {
  tenant: ListedTenant;
  onAct: (action: TenantAction) => void;
}

/** A tenant; it opens to show its policy, and what can be done to it. */
function TenantRow({ tenant, onAct }: TenantRowProps) {
  const { id, name, systemCount, createdAt, suspendedAt } = tenant;
  const { tenantId } = useViewer();
  const mayEdit = useMay("edit-tenants");
  const detailsId = useId();
  const [open, setOpen] = useState(false);
  return (
    <>
      <tr>
        <th scope="row">
          <Name>{name}</Name> {id === tenantId && <span class="badge">Your own</span>}{" "}
          {suspendedAt !== null && <span class="badge caution">Suspended</span>}
        </th>
        <td class="id" data-label="ID">
          {id}
        </td>
        <td data-label="Systems">{systemCount}</td>
        <td data-label="Created">
          <TimeAgo time={createdAt} />
        </td>
        <td>
          <Link to={SYSTEMS} tenant={id === tenantId ? null : id}>
            Open<span class="visually-hidden"> {name}</span>
          </Link>
        </td>
        <td>
          <button
            type="button"
            class="open"
            aria-label={`Details of ${name}`}
            aria-expanded={open}
            aria-controls={open ? detailsId : undefined}
            onClick={() => setOpen(!open)}
          >
            <span aria-hidden="true">{open ? "▾" : "▸"}</span>
          </button>
        </td>
      </tr>
      {open && (
        <tr id={detailsId} class="details">
          <td colSpan={6}>
            <TenantFacts tenant={tenant} />
            {mayEdit && <TenantActions tenant={tenant} onAct={onAct} />}
          </td>
        </tr>
      )}
    </>
  );
}

function TenantFacts({ tenant: { policy, suspendedAt } }: { tenant: ListedTenant }) {
  return (
    <dl>
      <div>
        <dt>Longest life of a key</dt>
        <dd>{keyLifetimeText(policy)}</dd>
      </div>
      <div>
        <dt>A session may be idle for</dt>
        <dd>{sessionIdleText(policy)}</dd>
      </div>
      {suspendedAt !== null && (
        <div>
          <dt>Suspended</dt>
          <dd>
            <TimeAgo time={suspendedAt} exact="beside" />
          </dd>
        </div>
      )}
    </dl>
  );
}

function TenantActions({ tenant, onAct }: TenantRowProps) {
  const { tenantId } = useViewer();
  const id = useId();
  const isOwn = tenant.id === tenantId;
  const isEmpty = tenant.systemCount === 0;
  return (
    <div class="actions">
      <button type="button" onClick={() => onAct("rename")}>
        Rename
      </button>
      <button type="button" onClick={() => onAct("policy")}>
        Change Policy
      </button>
      {tenant.suspendedAt !== null ? (
        <button type="button" onClick={() => onAct("resume")}>
          Resume
        </button>
      ) : (
        <button
          type="button"
          class="danger"
          disabled={isOwn}
          aria-describedby={isOwn ? id : undefined}
          onClick={() => onAct("suspend")}
        >
          Suspend
        </button>
      )}
      <button
        type="button"
        class="danger"
        disabled={isOwn || !isEmpty}
        aria-describedby={isOwn || !isEmpty ? id : undefined}
        onClick={() => onAct("delete")}
      >
        Delete
      </button>
      {(isOwn || !isEmpty) && (
        <p id={id} class="quiet">
          {isOwn
            ? "Your own tenant cannot be suspended or deleted here: you would lock yourself out."
            : "Delete its systems before you delete the tenant, or suspend it."}
        </p>
      )}
    </div>
  );
}
