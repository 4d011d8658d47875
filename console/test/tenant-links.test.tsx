// @vitest-environment happy-dom
import { render } from "preact";
import { beforeEach, describe, expect, test } from "vitest";
import { Link, navigate, useLocation } from "../src/router";
import { eventually } from "./support/eventually";

function Location() {
  const { tenant, path, search } = useLocation();
  return (
    <p>
      {tenant ?? "home"} {path} {search.get("x")}
    </p>
  );
}

function Links() {
  return (
    <>
      <Location />
      <Link to="/audit">same</Link>
      <Link to="/systems" tenant="globex">
        other
      </Link>
      <Link to="/systems" tenant={null}>
        home
      </Link>
    </>
  );
}

const root = document.createElement("div");
const href = (text: string) =>
  Array.from(root.querySelectorAll("a"))
    .find(({ textContent }) => textContent === text)
    ?.getAttribute("href");
const shown = () => root.querySelector("p")?.textContent;

describe("in the address of a tenant", () => {
  beforeEach(() => {
    render(null, root);
    history.replaceState(null, "", "/t/acme/systems?x=1");
    render(<Links />, root);
  });

  test("the path and the tenant are told apart", () => {
    expect(shown()).toBe("acme /systems 1");
  });

  test("links stay in the tenant unless they name another", () => {
    expect(href("same")).toBe("/t/acme/audit");
    expect(href("other")).toBe("/t/globex/systems");
    expect(href("home")).toBe("/systems");
  });

  test("navigation stays in the tenant, and leaves it when asked to", async () => {
    navigate("/review?x=2");
    expect(location.pathname + location.search).toBe("/t/acme/review?x=2");
    await eventually(() => expect(shown()).toBe("acme /review 2"));
    navigate("/systems", { tenant: null });
    expect(location.pathname).toBe("/systems");
    await eventually(() => expect(shown()).toBe("home /systems "));
  });
});

test("without a tenant in the address, links have none", () => {
  history.replaceState(null, "", "/systems");
  render(null, root);
  render(<Links />, root);
  expect(href("same")).toBe("/audit");
  expect(shown()).toBe("home /systems ");
});
