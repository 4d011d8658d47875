// @vitest-environment happy-dom
import { render } from "preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { navigate, useLeaveGuard } from "../src/router";

const confirm = vi.fn(() => false);
beforeEach(() => {
  confirm.mockClear();
  vi.stubGlobal("confirm", confirm);
  navigate("/systems/s1/key");
});
afterEach(() => vi.unstubAllGlobals());

function Guarded() {
  useLeaveGuard("Leave?");
  return <p>Shown once</p>;
}

test("leaving the page asks exactly while the guarded component is mounted", () => {
  const root = document.createElement("div");
  render(<Guarded />, root);
  expect(root.textContent).toBe("Shown once");
  navigate("/systems");
  expect(confirm).toHaveBeenCalledTimes(1);
  expect(location.pathname).toBe("/systems/s1/key");

  render(null, root);
  expect(root.textContent).toBe("");
  navigate("/systems");
  expect(confirm).toHaveBeenCalledTimes(1);
  expect(location.pathname).toBe("/systems");
});

test("closing the window asks exactly while the guarded component is mounted", () => {
  const root = document.createElement("div");
  const asksBeforeUnload = () => {
    const event = new Event("beforeunload", { cancelable: true });
    dispatchEvent(event);
    return event.defaultPrevented;
  };
  expect(asksBeforeUnload()).toBe(false);
  render(<Guarded />, root);
  expect(asksBeforeUnload()).toBe(true);
  render(null, root);
  expect(asksBeforeUnload()).toBe(false);
});
