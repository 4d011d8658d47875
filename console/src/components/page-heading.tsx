import { useLayoutEffect, useRef } from "preact/hooks";
import { hasNavigated, Link } from "../router";
import { SYSTEMS } from "../routes";

interface Crumb {
  name: string;
  address: string;
}

interface PageHeadingProps {
  title: string;
  /** The pages between API Key Management and this one; absent on API Key Management itself. */
  trail?: readonly Crumb[];
  /** False where a field takes the focus instead. */
  focus?: boolean;
}

/** For when what had the focus cannot have it any more. */
export const focusHeading = () => document.querySelector("h1")?.focus({ preventScroll: true });

/** Where this page is and what it is called; it takes the focus when the console has come here. */
export function PageHeading({ title, trail, focus = true }: PageHeadingProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    document.title = `${title} – Keymark`;
  }, [title]);
  // At once: later it would take the focus away from where somebody has put it meanwhile.
  useLayoutEffect(() => {
    if (focus && hasNavigated()) heading.current?.focus({ preventScroll: true });
  }, [focus]);
  return (
    <div class="page-heading">
      <nav aria-label="Breadcrumb">
        <ol class="breadcrumb">
          <li>Administration</li>
          {trail === undefined ? (
            <li aria-current="page">{title}</li>
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
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
    </div>
  );
}
