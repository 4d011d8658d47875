import { PageHeading } from "../components/page-heading";
import { Link } from "../router";
import { SYSTEMS } from "../routes";

export function NotFoundPage() {
  return (
    <>
      <PageHeading title="Page not found" />
      <p>
        There is nothing at this address. <Link to={SYSTEMS}>Go to API Key Management</Link>
      </p>
    </>
  );
}
