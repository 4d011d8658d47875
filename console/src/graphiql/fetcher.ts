import type { Fetcher, FetcherParams } from "@graphiql/toolkit";
import { type DocumentNode, type ExecutionResult, getOperationAST } from "graphql";
import { createClient } from "graphql-ws";
import { graphqlUrl, graphqlWebSocketUrl } from "../graph/urls";
import { clearGraphiql } from "./storage";

/** Sends queries and mutations over HTTP and subscriptions over a WebSocket, both with the page's cookie. */
export const fetcher: Fetcher = (params, options) =>
  isSubscription(options?.documentAST, params.operationName) ? subscribe(params) : post(params);

function isSubscription(document: DocumentNode | undefined, name: string | null | undefined) {
  return document !== undefined && getOperationAST(document, name)?.operation === "subscription";
}

async function post(params: FetcherParams): Promise<ExecutionResult> {
  const response = await fetch(graphqlUrl(), {
    method: "POST",
    credentials: "same-origin",
    headers: {
      accept: "application/graphql-response+json, application/json",
      "content-type": "application/json",
    },
    body: JSON.stringify(params),
  });
  const result = await response.json();
  if (response.ok && /\bsignOut\b/.test(params.query)) clearGraphiql();
  return result;
}

// Each subscription has its own client, whose socket closes when the subscription ends.
function subscribe(params: FetcherParams) {
  const client = createClient({ url: graphqlWebSocketUrl(), retryAttempts: 0 });
  return client.iterate(params) as AsyncIterable<ExecutionResult>;
}
