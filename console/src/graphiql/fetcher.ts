import type { Fetcher, FetcherOpts, FetcherParams } from "@graphiql/toolkit";
import { type DocumentNode, type ExecutionResult, getOperationAST } from "graphql";
import { createClient } from "graphql-ws";
import { graphqlUrl, graphqlWebSocketUrl } from "../graph/urls";
import { authorizationOf } from "./authorization";

/** Sends queries and mutations over HTTP and subscriptions over a WebSocket, both with the page's cookie. */
export const fetcher: Fetcher = (params, options) =>
  isSubscription(options?.documentAST, params.operationName)
    ? subscribe(params, options)
    : post(params, options);

function isSubscription(document: DocumentNode | undefined, name: string | null | undefined) {
  return document !== undefined && getOperationAST(document, name)?.operation === "subscription";
}

async function post(params: FetcherParams, options?: FetcherOpts): Promise<ExecutionResult> {
  const response = await fetch(graphqlUrl(), {
    method: "POST",
    credentials: "same-origin",
    headers: {
      accept: "application/graphql-response+json, application/json",
      "content-type": "application/json",
      ...options?.headers,
    },
    body: JSON.stringify(params),
  });
  return response.json();
}

// Each subscription has its own client, since its headers may differ. The socket closes when the subscription ends.
function subscribe(params: FetcherParams, options?: FetcherOpts) {
  const authorization = authorizationOf(options?.headers);
  const client = createClient({
    url: graphqlWebSocketUrl(),
    ...(authorization === undefined ? {} : { connectionParams: { authorization } }),
    retryAttempts: 0,
  });
  return client.iterate(params) as AsyncIterable<ExecutionResult>;
}
