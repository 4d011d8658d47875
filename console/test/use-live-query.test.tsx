// @vitest-environment happy-dom
import { type ErrorCode, ViewerDocument } from "@keymark/client/documents";
import { beforeEach, expect, test, vi } from "vitest";
import { useLiveQuery } from "../src/live/use-live-query";
import { Page } from "../src/pages/page";
import { refused, rendered, show } from "./support/render";

beforeEach(() => {
  vi.useFakeTimers();
});

function Name() {
  const [{ data, error }] = useLiveQuery(ViewerDocument, {});
  return <p>{error ? "failed" : (data?.viewer?.username ?? "loading")}</p>;
}

const viewer = (username: string) => ({ viewer: { id: "o1", username } });

test.each(["UNAVAILABLE", "INTERNAL", "RATE_LIMITED"] satisfies ErrorCode[])(
  "what was loaded stays after %s, until a retry succeeds",
  async (code) => {
    let respond = (): unknown => viewer("alice");
    const responses = {
      get Viewer() {
        return respond();
      },
    };
    const { session, text } = show(<Name />, { permissions: [], responses });
    await rendered();
    expect(text()).toBe("alice");
    respond = () => refused(code);
    session.refetchCount.update((count) => count + 1);
    await rendered();
    expect(text()).toBe("alice");
    await vi.advanceTimersByTimeAsync(5_000);
    expect(text()).toBe("alice");
    respond = () => viewer("renamed");
    await vi.advanceTimersByTimeAsync(5_000);
    expect(text()).toBe("renamed");
  },
);

test("a refusal replaces what was loaded, and so does any failure before that", async () => {
  const responses: Record<string, unknown> = { Viewer: refused("UNAVAILABLE") };
  const { session, text } = show(<Name />, { permissions: [], responses });
  await rendered();
  expect(text()).toBe("failed");
  responses.Viewer = viewer("alice");
  session.refetchCount.update((count) => count + 1);
  await rendered();
  expect(text()).toBe("alice");
  responses.Viewer = refused("FORBIDDEN");
  session.refetchCount.update((count) => count + 1);
  await rendered();
  expect(text()).toBe("failed");
});

test("what the operator may not view is not requested after a gap or a reconnection either", async () => {
  const page = <Page route={{ page: "system", id: "s1" }} />;
  const options = { permissions: ["edit"], created: ["s1"] } as const;
  const { session, requests, text } = show(page, options);
  await rendered();
  expect(text()).toContain("Billing");
  session.refetchCount.update((count) => count + 1);
  session.connection.update(() => ({ state: "live", reconnections: 1 }));
  await rendered();
  expect(requests.length).toBeGreaterThan(0);
  expect(requests.filter(({ policy }) => policy !== "cache-only")).toEqual([]);
});
