import {
  AuditLogAppendedDocument,
  OperatorsTotalDocument,
  ServiceTokensTotalDocument,
  TenantsTotalDocument,
  VerifierTokensTotalDocument,
} from "@keymark/client/documents";
import type { TypedDocumentNode } from "@urql/core";
import { useState } from "preact/hooks";
import {
  OPERATOR_CHANGES,
  SERVICE_TOKEN_CHANGES,
  TENANT_CHANGES,
  VERIFIER_TOKEN_CHANGES,
} from "../live/actions";
import { useLiveQuery } from "../live/use-live-query";
import { useLiveSubscription } from "../live/use-live-subscription";
import { OPERATORS, SERVICE_TOKENS, TENANTS, VERIFIER_TOKENS } from "../routes";
import { useMay } from "../session/viewer-context";
import { OverviewCount } from "./overview-count";
import { useRecount } from "./use-recount";

const CHANGES = [
  ...OPERATOR_CHANGES,
  ...SERVICE_TOKEN_CHANGES,
  ...VERIFIER_TOKEN_CHANGES,
  ...TENANT_CHANGES,
];

/** How many operators and tokens the tenant has, and how many tenants there are. */
export function WhoCounts() {
  const mayView = useMay("view");
  const mayViewOperators = useMay("view-operators");
  const mayViewTenants = useMay("view-tenants");
  const [changes, setChanges] = useState(0);
  const ready = useLiveSubscription({
    document: AuditLogAppendedDocument,
    variables: { filter: { actions: CHANGES } },
    enabled: mayView,
    onData: () => setChanges((count) => count + 1),
  });
  if (!ready) return null;
  return (
    <section aria-labelledby="access">
      <h2 id="access">Access</h2>
      <ul class="overview">
        {mayViewOperators && (
          <>
            <Count
              label="Operators"
              document={OperatorsTotalDocument}
              read={({ operators }) => operators.totalCount}
              to={OPERATORS}
              changes={changes}
            />
            <Count
              label="Service tokens"
              document={ServiceTokensTotalDocument}
              read={({ serviceTokens }) => serviceTokens.totalCount}
              to={SERVICE_TOKENS}
              changes={changes}
            />
            <Count
              label="Verifier tokens"
              document={VerifierTokensTotalDocument}
              read={({ verifierTokens }) => verifierTokens.totalCount}
              to={VERIFIER_TOKENS}
              changes={changes}
            />
          </>
        )}
        {mayViewTenants && (
          <Count
            label="Tenants"
            document={TenantsTotalDocument}
            read={({ tenants }) => tenants.totalCount}
            to={TENANTS}
            changes={changes}
          />
        )}
      </ul>
    </section>
  );
}

interface CountProps<Data> {
  label: string;
  document: TypedDocumentNode<Data, Record<string, never>>;
  read: (data: Data) => number;
  to: string;
  /** How many changes were received. */
  changes: number;
}

function Count<Data>({ label, document, read, to, changes }: CountProps<Data>) {
  const [{ data }, execute] = useLiveQuery(document, {});
  useRecount(changes, execute);
  return <OverviewCount label={label} count={data && read(data)} to={to} />;
}
