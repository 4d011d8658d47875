import type { Transport } from "@keymark/client";
import { LatestCursorDocument } from "@keymark/client/documents";
import type { Client } from "@urql/core";
import { failureOf } from "../text/failures";
import { consume } from "./consume";

/** Has `follow` send its requests through urql, so that changes reach its cache. Every failure is retried. */
export const transportOf = (client: Client): Transport => ({
  async latestCursor() {
    const policy = { requestPolicy: "network-only" } as const;
    const { data } = await client.query(LatestCursorDocument, {}, policy);
    return data?.auditCursor;
  },
  subscribe: (document, variables, signal, onResult) =>
    consume(client.subscription(document, variables), signal, ({ data, error }) =>
      onResult({ data, code: error && failureOf(error).code }),
    ),
});
