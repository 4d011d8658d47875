// @vitest-environment happy-dom
import { render } from "preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { App } from "../src/app";
import { navigate } from "../src/router";
import { eventually } from "./support/eventually";

const root = document.createElement("div");
const sockets: FakeWebSocket[] = [];
let viewer: object | null;

/** A socket that is never opened. */
class FakeWebSocket {
  static readonly OPEN = 1;
  readonly readyState = 0;
  onclose: ((event: object) => void) | null = null;
  constructor() {
    sockets.push(this);
  }
  close() {}
}

beforeEach(() => {
  viewer = {
    __typename: "Viewer",
    id: "o1",
    username: "alice",
    tenantId: "acme",
    permissions: [],
    mustChangePassword: false,
    isPlatform: false,
  };
  sockets.length = 0;
  localStorage.clear();
  vi.stubGlobal("WebSocket", FakeWebSocket);
  vi.stubGlobal("fetch", async () =>
    Response.json({ data: { __typename: "Query", viewer } }, { status: 200 }),
  );
});
afterEach(() => {
  render(null, root);
  vi.unstubAllGlobals();
});

test.each(["", "/t/acme"])(
  "the end of a session at %s/… is said, and clears what GraphiQL stored",
  async (tenant) => {
    navigate(`${tenant}/nowhere`, { tenant: null });
    localStorage.setItem("graphiql:query", "{ viewer { id } }");
    render(<App />, root);
    await eventually(() => expect(sockets.length).toBe(1));
    expect(root.textContent).toContain("Page not found");

    viewer = null;
    sockets[0]?.onclose?.({ code: 4403, reason: "Forbidden" });
    await eventually(() => expect(root.textContent).toContain("Your session has ended."));
    expect(location.pathname).toBe("/sign-in");
    await eventually(() => expect(localStorage.getItem("graphiql:query")).toBe(null));
  },
);
