import { useLayoutEffect, useRef } from "preact/hooks";
import { hasNavigated, Link, useLocation } from "../router";
import { ADMINISTRATION, SYSTEMS } from "../routes";
import { Name } from "./name";

interface Crumb {
  name: string;
  path: string;
}

interface PageHeadingProps {
  title: string;
  /** The name of the object that the page is about, if it is about one. */
  subject?: string | undefined;
  /** The breadcrumbs between API Key Management and this page; absent on API Key Management itself, and beside it. */
  trail?: readonly Crumb[];
  /** The breadcrumb before this page, if it is beside API Key Management. */
  parent?: Crumb;
  /** Whether this is the page Administration, to which the first breadcrumb of all others leads. */
  isOverview?: boolean;
  /** False if a field of the page takes the focus instead. */
  focus?: boolean;
}

/** Moves the focus to the heading, when the focused control was disabled or removed. */
export const focusHeading = () => document.querySelector("h1")?.focus({ preventScroll: true });

/** The breadcrumbs and the title of a page. The title takes the focus after a navigation within the console. */
export function PageHeading(props: PageHeadingProps) {
  const { title, subject, trail, parent, isOverview = false, focus = true } = props;
  const { tenant } = useLocation();
  const heading = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    // The name comes first: a narrow tab shows only the start of its title.
    document.title = [subject, title, tenant, "Keymark"].filter(Boolean).join(" – ");
  }, [title, subject, tenant]);
  // A layout effect: a plain one runs later, and could take the focus from where the operator has moved it by then.
  useLayoutEffect(() => {
    if (focus && hasNavigated()) heading.current?.focus({ preventScroll: true });
  }, [focus]);
  const titled = subject === undefined ? title : <Titled title={title} subject={subject} />;
  return (
    <div class="page-heading">
      <nav aria-label="Breadcrumb">
        <ol class="breadcrumb">
          {!isOverview && (
            <li>
              <Link to={ADMINISTRATION}>Administration</Link>
            </li>
          )}
          {trail !== undefined && (
            <li>
              <Link to={SYSTEMS}>API Key Management</Link>
            </li>
          )}
          {[...(parent ? [parent] : []), ...(trail ?? [])].map(({ name, path }) => (
            <li key={path}>
              <Link to={path}>{name}</Link>
            </li>
          ))}
          <li aria-current="page">{titled}</li>
        </ol>
      </nav>
      <h1 ref={heading} tabIndex={-1}>
        {titled}
      </h1>
    </div>
  );
}

const Titled = ({ title, subject }: { title: string; subject: string }) => (
  <>
    {title}: <Name>{subject}</Name>
  </>
);
