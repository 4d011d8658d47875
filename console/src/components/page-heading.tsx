import { useEffect } from "preact/hooks";
import { Link } from "../router";
import { SYSTEMS } from "../routes";

interface Crumb {
  name: string;
  address: string;
}

interface PageHeadingProps {
  title: string;
  /** The pages between API Key Management and this one. */
  trail?: readonly Crumb[];
}

export function PageHeading({ title, trail }: PageHeadingProps) {
  useEffect(() => {
    document.title = `${title} – Keymark`;
  }, [title]);
  return (
    <>
      <nav aria-label="Breadcrumb">
        <ol class="breadcrumb">
          <li>Administration</li>
          {trail === undefined ? (
            <li aria-current="page">API Key Management</li>
          ) : (
            <>
              <li>
                <Link to={SYSTEMS}>API Key Management</Link>
              </li>
              {trail.map(({ name, address }) => (
                <li key={address}>
                  <Link to={address}>{name}</Link>
                </li>
              ))}
              <li aria-current="page">{title}</li>
            </>
          )}
        </ol>
      </nav>
      <h1>{title}</h1>
    </>
  );
}
