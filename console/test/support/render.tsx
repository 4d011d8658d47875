import type {
  ApiKeyPartsFragment,
  AuditEntryPartsFragment,
  ErrorCode,
  OperatorPartsFragment,
  ServiceTokenPartsFragment,
  SessionPartsFragment,
  SystemPartsFragment,
  TenantPartsFragment,
  VerifierTokenPartsFragment,
} from "@keymark/client/documents";
import {
  Client,
  CombinedError,
  type Exchange,
  type Operation,
  type RequestPolicy,
} from "@urql/core";
import { Provider } from "@urql/preact";
import { type ComponentChildren, render } from "preact";
import { afterEach, vi } from "vitest";
import { filter, fromValue, makeSubject, merge, mergeMap, pipe } from "wonka";
import { extractSecretExchange } from "../../src/graph/secrets";
import type { ConnectionStatus } from "../../src/graph/socket";
import { Observable } from "../../src/live/observable";
import type { Session } from "../../src/session/session";
import { SessionContext } from "../../src/session/session-context";
import { ViewerContext } from "../../src/session/viewer-context";
import { type Action, permissionCode } from "../../src/text/permissions";

export const system: SystemPartsFragment = {
  id: "s1",
  name: "Billing",
  description: null,
  externalId: null,
  keyState: "NOT_GENERATED",
  keyMark: null,
  currentKey: null,
  retiringKey: null,
  lastKey: null,
  suspendedAt: null,
  suspendedReason: null,
  revision: 1,
  createdAt: "2026-03-01T12:00:00.000Z",
  updatedAt: "2026-03-01T12:00:00.000Z",
};

const currentKey: ApiKeyPartsFragment = {
  role: "CURRENT",
  mark: "abcd",
  generatedAt: "2026-03-01T12:00:00.000Z",
  generatedBy: { kind: "OPERATOR", id: "o1", name: "alice" },
  expiresAt: null,
};

/** The system with a key. */
export const activeSystem: SystemPartsFragment = {
  ...system,
  keyState: "ACTIVE",
  keyMark: "abcd",
  currentKey,
  revision: 2,
};

/** The system during a rotation. */
export const rotatingSystem: SystemPartsFragment = {
  ...activeSystem,
  keyMark: "wxyz",
  currentKey: { ...currentKey, mark: "wxyz", generatedAt: "2026-03-02T12:00:00.000Z" },
  retiringKey: { ...currentKey, role: "RETIRING", expiresAt: "2026-03-03T12:00:00.000Z" },
  revision: 3,
};

export const entry: AuditEntryPartsFragment = {
  id: "e1",
  number: 1,
  cursor: "1",
  occurredAt: "2026-03-01T12:00:00.000Z",
  actor: { kind: "OPERATOR", id: "o1", name: "alice", isPlatform: false },
  action: "SYSTEM_CREATED",
  outcome: "DONE",
  systemId: "s1",
  systemName: "Billing",
  keyMark: null,
  previousKeyMark: null,
  keyExpiresAt: null,
  reason: null,
  previousName: null,
  operatorId: null,
  operatorName: null,
  tokenId: null,
  tokenName: null,
  tenantName: null,
  permissions: null,
  errorCode: null,
  count: 1,
  sourceAddress: "127.0.0.1",
  requestId: "r1",
  hash: "00ff",
};

const TIME = "2026-03-01T12:00:00.000Z";

export const operator: OperatorPartsFragment = {
  id: "o2",
  username: "bob",
  isPlatform: false,
  permissions: ["api_key_management:view", "api_key_management:delete"],
  createdAt: TIME,
  suspendedAt: null,
  lastActiveAt: TIME,
};

const session: SessionPartsFragment = {
  id: "n1",
  startedAt: TIME,
  lastActiveAt: TIME,
  expiresAt: "2026-03-02T00:00:00.000Z",
  network: "192.0.2.7",
  userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  isCurrent: false,
};

const currentSession: SessionPartsFragment = { ...session, id: "n2", isCurrent: true };

export const serviceToken: ServiceTokenPartsFragment = {
  id: "t1",
  name: "Backend",
  mark: "abcd",
  permissions: ["api_key_management:view"],
  isPlatform: false,
  createdAt: TIME,
  createdBy: { name: "alice" },
  expiresAt: null,
  lastUsedAt: null,
};

const verifierToken: VerifierTokenPartsFragment = {
  id: "t2",
  name: "Edge proxy",
  mark: "wxyz",
  tenant: null,
  createdAt: TIME,
  createdBy: { name: "alice" },
  expiresAt: TIME,
  lastUsedAt: TIME,
};

export const tenant: TenantPartsFragment = {
  id: "globex",
  name: "Globex Corporation",
  createdAt: "2026-03-01T12:00:00.000Z",
  suspendedAt: null,
  policy: { maxKeyLifetimeDays: 90, sessionIdleMinutes: null },
};

const pageInfo = {
  hasNextPage: false,
  hasPreviousPage: false,
  startCursor: null,
  endCursor: null,
};

/** The default responses, by the name of the query. */
const RESPONSES: Record<string, unknown> = {
  LatestCursor: { auditCursor: "1" },
  Systems: { systems: { nodes: [system], pageInfo } },
  Review: { systems: { nodes: [{ ...system, lastUsedAt: null }], pageInfo } },
  System: { system },
  SystemsTotal: { systems: { totalCount: 2 } },
  CurrentTenant: { tenant },
  TenantNames: { tenants: { nodes: [tenant], pageInfo } },
  Tenants: { tenants: { nodes: [{ ...tenant, systemCount: 0 }], pageInfo, totalCount: 1 } },
  AuditLog: { auditLog: { nodes: [entry], pageInfo } },
  Operators: { operators: { nodes: [operator], pageInfo, totalCount: 1 } },
  OperatorSessions: { operators: { nodes: [{ ...operator, sessions: [session] }], pageInfo } },
  ViewerSessions: { viewer: { id: "o1", sessions: [currentSession, session] } },
  ServiceTokens: { serviceTokens: { nodes: [serviceToken], pageInfo, totalCount: 1 } },
  VerifierTokens: { verifierTokens: { nodes: [verifierToken], pageInfo, totalCount: 1 } },
};

/** Returns a response that is an error with this code, in place of data. */
export const refused = (code: ErrorCode): CombinedError =>
  new CombinedError({ graphQLErrors: [{ message: "refused", extensions: { code } }] });

interface Request {
  name: string;
  policy: RequestPolicy;
}

interface FakeServer {
  exchange: Exchange;
  /** The requests so far, in order. */
  requests: readonly Request[];
  /** Sends data or an error for the subscription or mutation of that name. */
  send: (name: string, response: unknown) => void;
  /** Returns the variables of the last subscription or mutation of that name; undefined if there was none. */
  variablesOf: (name: string) => unknown;
}

/** Responds to queries immediately, and to subscriptions and mutations with what the test sends. */
function fakeServer(responses: Record<string, unknown>): FakeServer {
  const requests: Request[] = [];
  const sent = makeSubject<{ name: string; response: unknown }>();
  const open = new Map<string, Operation>();
  const respond = (operation: Operation, response: unknown) => {
    const isError = response instanceof CombinedError;
    const result = isError ? { data: undefined, error: response } : { data: response };
    return fromValue({ operation, ...result, stale: false, hasNext: false });
  };
  const exchange: Exchange = () => (operations) => {
    const queries = pipe(
      operations,
      filter((operation) => {
        if (operation.kind !== "teardown") {
          requests.push({ name: nameOf(operation), policy: operation.context.requestPolicy });
        }
        const staysOpen = operation.kind === "subscription" || operation.kind === "mutation";
        if (staysOpen) open.set(nameOf(operation), operation);
        return operation.kind === "query";
      }),
      mergeMap((operation) =>
        respond(operation, { ...RESPONSES, ...responses }[nameOf(operation)]),
      ),
    );
    const events = pipe(
      sent.source,
      mergeMap(({ name, response }) => {
        const operation = open.get(name);
        if (operation === undefined) throw new Error(`${name} was not requested`);
        return respond(operation, response);
      }),
    );
    return merge([queries, events]);
  };
  return {
    exchange,
    requests,
    send: (name, response) => sent.next({ name, response }),
    variablesOf: (name) => open.get(name)?.variables,
  };
}

function nameOf({ query }: Operation): string {
  const [definition] = query.definitions;
  if (definition?.kind !== "OperationDefinition") throw new Error("no operation");
  return definition.name?.value ?? "";
}

let unmount = () => {};
// Unmounts before the timers are real again: effects clear the fake timers that they have set.
afterEach(() => {
  unmount();
  unmount = () => {};
  vi.useRealTimers();
});

/** Lets fake time pass, enough for effects to run and the results to be rendered. */
export const rendered = () => vi.advanceTimersByTimeAsync(100);

interface RenderOptions {
  permissions: readonly Action[];
  /** Whether the operator is of the platform. */
  isPlatform?: boolean;
  /** The id of the tenant in the URL. */
  tenant?: string;
  /** Ids of systems that the operator has created in this session. */
  created?: readonly string[];
  /** Responses that replace the default ones, by the name of the query: data or an error. */
  responses?: Record<string, unknown>;
}

/** Renders a part of the console for an operator with these permissions; it is unmounted after the test. */
export function show(children: ComponentChildren, options: RenderOptions) {
  const { permissions, isPlatform = false, tenant, created = [], responses = {} } = options;
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  const server = fakeServer(responses);
  const exchanges = [extractSecretExchange, server.exchange];
  const client = new Client({ url: "/graphql", exchanges });
  const session: Session = {
    client,
    connection: new Observable<ConnectionStatus>({ state: "live", reconnections: 0 }),
    tenant,
    systemsPosition: {},
    createdSystemIds: new Set(created),
    openedPages: new Set(),
    refetchCount: new Observable(0),
    refetchAll: () => undefined,
    changingPassword: new Observable(false),
    close: () => undefined,
  };
  const viewer = {
    id: "o1",
    username: "alice",
    tenantId: "acme",
    permissions: permissions.map(permissionCode),
    mustChangePassword: false,
    isPlatform,
  };
  render(
    <SessionContext.Provider value={{ ...session, restart: () => undefined }}>
      <Provider value={client}>
        <ViewerContext.Provider value={viewer}>{children}</ViewerContext.Provider>
      </Provider>
    </SessionContext.Provider>,
    root,
  );
  unmount = () => render(null, root);
  const textsOf = (selector: string) =>
    Array.from(root.querySelectorAll(selector), ({ textContent }) => textContent?.trim() ?? "");
  return {
    root,
    session,
    requests: server.requests,
    send: server.send,
    variablesOf: server.variablesOf,
    text: () => root.textContent ?? "",
    /** The names of all buttons and links. */
    controls: () => textsOf("button, a"),
    button: (name: string) =>
      Array.from(root.querySelectorAll("button")).find(({ textContent }) => textContent === name),
    input: () => root.querySelector("input"),
    /** Replaces the content of the first input. */
    type(text: string) {
      const input = root.querySelector("input");
      if (input === null) throw new Error("there is no input");
      input.value = text;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    },
  };
}
