import { TenantsDocument } from "@keymark/client/documents";
import { useClient } from "@urql/preact";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import { EnforcementStatus } from "../components/enforcement-status";
import { ListContent } from "../components/list-content";
import { MissingPermission } from "../components/missing-permission";
import { Name } from "../components/name";
import { Notice } from "../components/notice";
import { focusHeading, PageHeading } from "../components/page-heading";
import { SearchBox } from "../components/search-box";
import {
  DeleteTenantDialog,
  ResumeTenantDialog,
  SuspendTenantDialog,
} from "../components/tenant-dialogs";
import {
  type ChangedTenant,
  CreateTenantDialog,
  RenameTenantDialog,
  TenantPolicyDialog,
} from "../components/tenant-form-dialogs";
import { type ListedTenant, type TenantAction, TenantTable } from "../components/tenant-table";
import { Total } from "../components/total";
import { useDebounced } from "../components/use-debounced";
import { TENANT_CHANGES } from "../live/actions";
import { useList } from "../live/use-list";
import { Link, navigate, useLocation } from "../router";
import { OPERATORS, SYSTEMS, tenantsPath } from "../routes";
import { useMay } from "../session/viewer-context";
import type { Verdict } from "../text/enforcement";

const SEARCH_DEBOUNCE_MS = 150;

/** The tenants of the platform, filtered by the parameter `search` of the URL. */
export function TenantsPage() {
  const mayView = useMay("view-tenants");
  return (
    <>
      <PageHeading title="Tenants" />
      {mayView ? <Tenants /> : <MissingPermission action="view-tenants" />}
    </>
  );
}

type OpenDialog = { action: "create" } | { action: TenantAction; tenant: ListedTenant };

function Tenants() {
  const client = useClient();
  const { search: parameters } = useLocation();
  const search = parameters.get("search") ?? "";
  const debouncedSearch = useDebounced(search, SEARCH_DEBOUNCE_MS);
  const mayEdit = useMay("edit-tenants");
  const [notice, setNotice] = useState<ComponentChildren>();
  const [dialog, setDialog] = useState<OpenDialog>();
  const list = useList({
    search: debouncedSearch,
    actions: TENANT_CHANGES,
    // It counts the systems of each tenant.
    polls: false,
    async load(page) {
      const variables = { search: debouncedSearch, ...page };
      const options = { requestPolicy: "network-only" } as const;
      const { data, error } = await client.query(TenantsDocument, variables, options);
      return { page: data?.tenants, error };
    },
  });
  // The button that opened the dialog may be gone by now, so it cannot take the focus back.
  useLayoutEffect(() => {
    if (notice !== undefined) focusHeading();
  }, [notice]);
  return (
    <>
      <Notice>{notice}</Notice>
      <div class="toolbar">
        <SearchBox
          label="Search tenants"
          value={search}
          onInput={(typed) => navigate(tenantsPath(typed), { replace: true })}
          onKey={() => undefined}
        />
        <Total
          count={list.totalCount}
          nouns={["tenant", "tenants"]}
          filtered={debouncedSearch !== ""}
        />
        {mayEdit && (
          <button type="button" class="primary" onClick={() => setDialog({ action: "create" })}>
            Create tenant
          </button>
        )}
      </div>
      <ListContent
        list={list}
        empty={
          <p>
            No tenant matches “<bdi>{debouncedSearch}</bdi>”.
          </p>
        }
      >
        {(tenants) => (
          <TenantTable
            tenants={tenants}
            onAct={(action, tenant) => setDialog({ action, tenant })}
          />
        )}
      </ListContent>
      {mayEdit && dialog && (
        <TenantDialog
          key={dialog.action}
          dialog={dialog}
          onClose={() => setDialog(undefined)}
          onDone={(done) => {
            setDialog(undefined);
            setNotice(done);
            list.reload();
          }}
        />
      )}
    </>
  );
}

interface TenantDialogProps {
  dialog: OpenDialog;
  onClose: () => void;
  onDone: (notice: ComponentChildren) => void;
}

function TenantDialog({ dialog, onClose, onDone }: TenantDialogProps) {
  const mayAddOperators = useMay("edit-operators");
  const done =
    (what: string, verdict: Verdict, subject?: string) =>
    ({ tenant, enforcement }: ChangedTenant) =>
      onDone(
        <>
          <Name>{tenant.name}</Name> {what}.{" "}
          <EnforcementStatus
            verdict={verdict}
            enforcement={enforcement}
            {...(subject !== undefined && { subject })}
          />
        </>,
      );
  if (dialog.action === "create") {
    return (
      <CreateTenantDialog
        onCancel={onClose}
        onDone={({ tenant }) =>
          onDone(
            <>
              <Name>{tenant.name}</Name> was created.{" "}
              <Link to={mayAddOperators ? OPERATORS : SYSTEMS} tenant={tenant.id}>
                {mayAddOperators ? "Add its first operator" : "Open it"}
              </Link>
            </>,
          )
        }
      />
    );
  }
  const { tenant } = dialog;
  switch (dialog.action) {
    case "rename":
      return (
        <RenameTenantDialog
          tenant={tenant}
          onCancel={onClose}
          onDone={done("is the new name", "applied", "It")}
        />
      );
    case "policy":
      return (
        <TenantPolicyDialog
          tenant={tenant}
          onCancel={onClose}
          onDone={done("has another policy", "applied", "It")}
        />
      );
    case "suspend":
      return (
        <SuspendTenantDialog
          tenant={tenant}
          onCancel={onClose}
          onDone={done("was suspended", "refused", "Every key, session and token of it")}
        />
      );
    case "resume":
      return (
        <ResumeTenantDialog
          tenant={tenant}
          onCancel={onClose}
          onDone={done("was resumed", "accepted", "Every key of it")}
        />
      );
    case "delete":
      return (
        <DeleteTenantDialog
          tenant={tenant}
          onCancel={onClose}
          onDeleted={() =>
            onDone(
              <>
                <Name>{tenant.name}</Name> was deleted.
              </>,
            )
          }
        />
      );
  }
}
