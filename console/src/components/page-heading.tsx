import { useLayoutEffect, useRef } from "preact/hooks";
import { hasNavigated, Link } from "../router";
import { SYSTEMS } from "../routes";

interface Crumb {
  name: string;
  path: string;
}

interface PageHeadingProps {
  title: string;
  /** The breadcrumbs between API Key Management and this page; absent on API Key Management itself. */
  trail?: readonly Crumb[];
  /** False if a field of the page takes the focus instead. */
  focus?: boolean;
}

/** Moves the focus to the heading, when the focused control was disabled or removed. */
export const focusHeading = () => document.querySelector("h1")?.focus({ preventScroll: true });

/** The breadcrumbs and the title of a page. The title takes the focus after a navigation within the console. */
export function PageHeading({ title, trail, focus = true }: PageHeadingProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    document.title = `${title} – Keymark`;
  }, [title]);
  // A layout effect: a plain one runs later, and could take the focus from where the operator has moved it by then.
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
              {trail.map(({ name, path }) => (
                <li key={path}>
                  <Link to={path}>{name}</Link>
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
