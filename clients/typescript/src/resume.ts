import type { Client, Sink, SubscribePayload } from "graphql-ws";

/**
 * Subscribes so that a reconnect resumes where the connection was lost. graphql-ws sends the same payload object again,
 * and its `after` variable is set to the cursor of each result that has one.
 */
export function subscribeWithResume(
  client: Pick<Client, "subscribe">,
  request: SubscribePayload,
  sink: Sink,
): () => void {
  const variables: Record<string, unknown> = { ...request.variables };
  return client.subscribe(
    { ...request, variables },
    {
      next(result) {
        const cursor = cursorIn(result.data);
        if (cursor !== undefined) variables.after = cursor;
        sink.next(result);
      },
      error: (reason) => sink.error(reason),
      complete: () => sink.complete(),
    },
  );
}

/** Returns the cursor of the change in a subscription's result, if it has one. */
export function cursorIn(data: object | null | undefined): string | undefined {
  const [change] = Object.values(data ?? {});
  if (typeof change !== "object" || change === null || !("cursor" in change)) return undefined;
  return typeof change.cursor === "string" ? change.cursor : undefined;
}
