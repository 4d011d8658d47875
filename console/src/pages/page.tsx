import type { Route } from "../routes";
import { AdministrationPage } from "./administration-page";
import { AuditPage } from "./audit-page";
import { CreateSystemPage } from "./create-system-page";
import { EditSystemPage } from "./edit-system-page";
import { ManageKeyPage } from "./manage-key-page";
import { MySessionsPage } from "./my-sessions-page";
import { NotFoundPage } from "./not-found-page";
import { OperatorPage } from "./operator-page";
import { OperatorsPage } from "./operators-page";
import { ReviewPage } from "./review-page";
import { ServiceTokensPage } from "./service-tokens-page";
import { SystemPage } from "./system-page";
import { SystemsPage } from "./systems-page";
import { TenantsPage } from "./tenants-page";
import { VerifierTokensPage } from "./verifier-tokens-page";

export function Page({ route }: { route: Route }) {
  switch (route.page) {
    case "systems":
      return <SystemsPage />;
    case "create-system":
      return <CreateSystemPage />;
    case "system":
      return <SystemPage key={route.id} id={route.id} />;
    case "edit-system":
      return <EditSystemPage key={route.id} id={route.id} />;
    case "manage-key":
      return <ManageKeyPage key={route.id} id={route.id} />;
    case "review":
      return <ReviewPage />;
    case "audit":
      return <AuditPage />;
    case "administration":
      return <AdministrationPage />;
    case "tenants":
      return <TenantsPage />;
    case "operators":
      return <OperatorsPage />;
    case "operator":
      return <OperatorPage key={route.username} username={route.username} />;
    case "service-tokens":
      return <ServiceTokensPage />;
    case "verifier-tokens":
      return <VerifierTokensPage />;
    case "my-sessions":
      return <MySessionsPage />;
    case "sign-in":
    case "not-found":
      return <NotFoundPage />;
  }
}
