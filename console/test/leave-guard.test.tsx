// @vitest-environment happy-dom
import { render } from "preact";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { navigate, useLeaveGuard } from "../src/router";

const asked = vi.fn(() => false);
beforeEach(() => {
  asked.mockClear();
  vi.stubGlobal("confirm", asked);
  navigate("/systems/s1/key");
});
afterEach(() => vi.unstubAllGlobals());

function Guarded() {
  useLeaveGuard("Leave?");
  return <p>Shown once</p>;
}

test("leaving asks from the moment at which the guarded is there until the moment at which it is gone", () => {
  const root = document.createElement("div");
  render(<Guarded />, root);
  expect(root.textContent).toBe("Shown once");
  navigate("/systems");
  expect(asked).toHaveBeenCalledTimes(1);
  expect(location.pathname).toBe("/systems/s1/key");

  render(null, root);
  expect(root.textContent).toBe("");
  navigate("/systems");
  expect(asked).toHaveBeenCalledTimes(1);
  expect(location.pathname).toBe("/systems");
});

test("the window's own question comes and goes with the guarded too", () => {
  const root = document.createElement("div");
  const leave = () => {
    const event = new Event("beforeunload", { cancelable: true });
    dispatchEvent(event);
    return event.defaultPrevented;
  };
  expect(leave()).toBe(false);
  render(<Guarded />, root);
  expect(leave()).toBe(true);
  render(null, root);
  expect(leave()).toBe(false);
});
