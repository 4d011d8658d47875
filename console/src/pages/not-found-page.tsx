import { PageHeading } from "../components/page-heading";
import { Link } from "../router";
import { SYSTEMS } from "../routes";

export function NotFoundPage() {
  return (
    <>
      <PageHeading title="Page not found" trail={[]} />
      <section class="empty">
        <h2>No page exists at this address.</h2>
        <p>
          <Link to={SYSTEMS}>Go to API Key Management</Link>
        </p>
      </section>
    </>
  );
}
