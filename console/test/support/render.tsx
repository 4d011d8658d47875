import { Client, type Exchange, type Operation } from "@urql/core";
import { Provider } from "@urql/preact";
import { type ComponentChildren, render } from "preact";
import { filter, fromValue, makeSubject, merge, mergeMap, pipe } from "wonka";
import type { AuditEntryPartsFragment, SystemPartsFragment } from "../../src/gql/graphql";
import { keyTakenOutExchange } from "../../src/graph/generate-key";
import type { Liveness } from "../../src/graph/socket";
import { Observed } from "../../src/live/observed";
import type { Session } from "../../src/session/session";
import { SessionContext } from "../../src/session/session-context";
import { ViewerContext } from "../../src/session/viewer-context";
import { type Action, permissionCode } from "../../src/text/permissions";

export const system: SystemPartsFragment = {
  id: "s1",
  name: "Billing",
  keyState: "NOT_GENERATED",
  keyMark: null,
  revision: 1,
  updatedAt: "2026-03-01T12:00:00.000Z",
};

export const entry: AuditEntryPartsFragment = {
  id: "e1",
  cursor: "1",
  occurredAt: "2026-03-01T12:00:00.000Z",
  actor: { kind: "OPERATOR", id: "o1", name: "alice" },
  action: "SYSTEM_CREATED",
  outcome: "DONE",
  systemId: "s1",
  systemName: "Billing",
  keyMark: null,
  previousName: null,
  operatorName: null,
  permissions: null,
  count: 1,
  sourceAddress: "127.0.0.1",
};

const pageInfo = { hasNextPage: false, endCursor: null };

/** The server's answers, whoever asks. */
const ANSWERS: Record<string, unknown> = {
  LatestEntry: { auditLog: { nodes: [{ id: "e1", cursor: "1" }] } },
  Systems: { systems: { nodes: [system], pageInfo } },
  System: { system },
  AuditLog: { auditLog: { nodes: [entry], pageInfo } },
};

interface FakeServer {
  exchange: Exchange;
  /** To whoever has subscribed to it, or waits for the answer to the mutation. */
  send: (name: string, data: unknown) => void;
  /** What the mutation was last asked with. */
  asked: (name: string) => unknown;
}

/** Answers queries as above or as the test says, and subscriptions and mutations with what the test sends. */
function fakeServer(answers: Record<string, unknown>): FakeServer {
  const sent = makeSubject<{ name: string; data: unknown }>();
  const waiting = new Map<string, Operation>();
  const answer = (operation: Operation, data: unknown) =>
    fromValue({ operation, data, stale: false, hasNext: false });
  const exchange: Exchange = () => (operations) => {
    const queries = pipe(
      operations,
      filter((operation) => {
        const waits = operation.kind === "subscription" || operation.kind === "mutation";
        if (waits) waiting.set(nameOf(operation), operation);
        return operation.kind === "query";
      }),
      mergeMap((operation) => answer(operation, { ...ANSWERS, ...answers }[nameOf(operation)])),
    );
    const events = pipe(
      sent.source,
      mergeMap(({ name, data }) => {
        const operation = waiting.get(name);
        if (operation === undefined) throw new Error(`nobody waits for ${name}`);
        return answer(operation, data);
      }),
    );
    return merge([queries, events]);
  };
  return {
    exchange,
    send: (name, data) => sent.next({ name, data }),
    asked: (name) => waiting.get(name)?.variables,
  };
}

function nameOf({ query }: Operation): string {
  const [definition] = query.definitions;
  if (definition?.kind !== "OperationDefinition") throw new Error("no operation");
  return definition.name?.value ?? "";
}

interface Setting {
  codes: readonly Action[];
  /** Ids of systems that the operator has created. */
  created?: readonly string[];
  /** In place of the usual answers, by the name of the query. */
  answers?: Record<string, unknown>;
}

/** Shows a part of the console to an operator with these codes. */
export function show(children: ComponentChildren, { codes, created = [], answers = {} }: Setting) {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  const server = fakeServer(answers);
  const exchanges = [keyTakenOutExchange, server.exchange];
  const client = new Client({ url: "/graphql", exchanges });
  const session: Session = {
    client,
    liveness: new Observed<Liveness>({ state: "live", reconnections: 0 }),
    systemsPosition: {},
    created: new Set(created),
    openedPages: new Set(),
    readings: new Observed(0),
    readAgain: () => undefined,
    renewing: new Observed(false),
    close: () => undefined,
  };
  const viewer = {
    id: "o1",
    username: "alice",
    tenantId: "acme",
    permissions: codes.map(permissionCode),
  };
  render(
    <SessionContext.Provider value={{ ...session, restart: () => undefined }}>
      <Provider value={client}>
        <ViewerContext.Provider value={viewer}>{children}</ViewerContext.Provider>
      </Provider>
    </SessionContext.Provider>,
    root,
  );
  const named = (selector: string) =>
    Array.from(root.querySelectorAll(selector), ({ textContent }) => textContent?.trim() ?? "");
  return {
    root,
    send: server.send,
    asked: server.asked,
    text: () => root.textContent ?? "",
    /** What can be pressed or followed. */
    controls: () => named("button, a"),
    unmount: () => render(null, root),
  };
}
