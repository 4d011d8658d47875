// @vitest-environment happy-dom

import { follow } from "@keymark/client";
import {
  AuditLogAppendedDocument,
  type AuditLogAppendedSubscriptionVariables,
} from "@keymark/client/documents";
import { Client, CombinedError, type Exchange } from "@urql/core";
import { expect, test, vi } from "vitest";
import { filter, fromValue, mergeMap, never, pipe } from "wonka";
import { transportOf } from "../src/live/transport";

const NEWEST = { auditCursor: "3" };

/** Refuses the first subscription with this code, and keeps the others open. */
function refusing(code: string) {
  const subscriptions: unknown[] = [];
  const exchange: Exchange = () => (operations) =>
    pipe(
      operations,
      filter(({ kind }) => kind === "query" || kind === "subscription"),
      mergeMap((operation) => {
        const respond = (result: object) =>
          fromValue({ operation, data: undefined, stale: false, hasNext: false, ...result });
        if (operation.kind === "query") return respond({ data: NEWEST });
        subscriptions.push(operation.variables);
        const refusal = { message: "refused", extensions: { code } };
        const error = new CombinedError({ graphQLErrors: [refusal] });
        return subscriptions.length === 1 ? respond({ error }) : never;
      }),
    );
  const client = new Client({ url: "/graphql", exchanges: [exchange] });
  return { client, subscriptions };
}

test.each([
  ["CURSOR_INVALID", ["ready", "restored", "gap", "ready"]],
  ["BAD_USER_INPUT", ["ready", "gap", "ready"]],
])(
  "everything is loaded again after %s, and followed from the newest entry",
  async (code, expected) => {
    vi.useFakeTimers();
    const { client, subscriptions } = refusing(code);
    const calls: string[] = [];
    const end = new AbortController();
    const options = {
      document: AuditLogAppendedDocument,
      variables: (after: string): AuditLogAppendedSubscriptionVariables => ({ after }),
      position: { cursor: "217" },
      onData: () => calls.push("data"),
      onReady: () => {
        calls.push("ready");
      },
      onGap: () => calls.push("gap"),
      onRestored: () => calls.push("restored"),
    };
    void follow(transportOf(client), options, end.signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(subscriptions).toEqual([{ after: "217" }, { after: "3" }]);
    expect(calls).toEqual(expected);
    end.abort();
    vi.useRealTimers();
  },
);
