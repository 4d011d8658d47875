import type { Route } from "../routes";
import { AdministrationPage } from "./administration-page";
import { AuditPage } from "./audit-page";
import { CreateSystemPage } from "./create-system-page";
import { EditSystemPage } from "./edit-system-page";
import { ManageKeyPage } from "./manage-key-page";
import { NotFoundPage } from "./not-found-page";
import { ReviewPage } from "./review-page";
import { SystemPage } from "./system-page";
import { SystemsPage } from "./systems-page";

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
    case "operators":
    case "service-tokens":
    case "verifier-tokens":
    case "tenants":
    case "my-sessions":
    case "sign-in":
    case "not-found":
      return <NotFoundPage />;
  }
}
