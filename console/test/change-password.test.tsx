// @vitest-environment happy-dom
import { beforeEach, expect, test, vi } from "vitest";
import { ChangePasswordPage } from "../src/pages/change-password-page";
import { SignInPage } from "../src/pages/sign-in-page";
import { rendered, show } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

test.each([
  ["ChangePassword", <ChangePasswordPage key="change" />],
  [
    "SignIn",
    <SignInPage key="sign-in" sessionEnded={false} onSignedInElsewhere={() => undefined} />,
  ],
])("the passwords of %s bypass the cache", async (name, page) => {
  const { root, requests } = show(page, { permissions: [] });
  await rendered();
  root.querySelector("form")?.dispatchEvent(new Event("submit", { cancelable: true }));
  await rendered();
  expect(requests).toEqual([{ name, policy: "network-only" }]);
});
