// @vitest-environment happy-dom
import { beforeEach, expect, test } from "vitest";
import { clearGraphiql, SecretFreeStorage, withoutSecrets } from "../src/graphiql/storage";

const QUERY = "query Systems { systems { nodes { name } } }";
const SECRET = "hunter2-hunter2";
const DOCUMENTS_WITH_SECRETS = [
  `mutation { signIn(username: "ada", password: "${SECRET}") { token } }`,
  `mutation Change($new: String!) { changePassword(currentPassword: "${SECRET}", newPassword: $new) { token } }`,
  `${QUERY} mutation { revokeKey(systemId: "${SECRET}") { system { id } } }`,
  // While it is typed.
  `mutation { signIn(username: "ada", password: "${SECRET}`,
  `{ signIn(username: "ada", password: "${SECRET}") { token } }`,
];
const tabs = (query: string | null) =>
  JSON.stringify({
    activeTabIndex: 0,
    tabs: [
      {
        id: "1",
        title: "T",
        query,
        variables: SECRET,
        headers: SECRET,
        response: SECRET,
        hash: SECRET,
      },
    ],
  });
const history = (name: string, ...queries: string[]) =>
  JSON.stringify({
    [name]: queries.map((query) => ({ query, variables: SECRET, headers: SECRET, label: "L" })),
  });

beforeEach(() => localStorage.clear());

test("variables, headers, results and unknown members are not stored", () => {
  for (const name of ["variables", "headers", "shouldPersistHeaders", "anything"]) {
    expect(withoutSecrets(`graphiql:${name}`, SECRET)).toBeNull();
  }
  expect(JSON.parse(withoutSecrets("graphiql:tabState", tabs(QUERY)) ?? "").tabs).toEqual([
    {
      id: "1",
      title: "T",
      query: QUERY,
      variables: null,
      headers: null,
      response: null,
      hash: null,
    },
  ]);
  for (const name of ["queries", "favorites"]) {
    const kept = withoutSecrets(`graphiql:${name}`, history(name, QUERY)) ?? "";
    expect(JSON.parse(kept)).toEqual({ [name]: [{ query: QUERY, label: "L" }] });
  }
});

test.each(DOCUMENTS_WITH_SECRETS)("an operation with a secret is not stored: %s", (document) => {
  for (const [key, value] of [
    ["graphiql:query", document],
    ["graphiql:tabState", tabs(document)],
    ["graphiql:queries", history("queries", QUERY, document)],
    ["graphiql:favorites", history("favorites", document)],
  ] as const) {
    expect(withoutSecrets(key, value) ?? "").not.toContain(SECRET);
  }
  expect(withoutSecrets("graphiql:queries", history("queries", QUERY, document))).toContain(QUERY);
});

test("what an earlier release stored loses its secrets when the page opens", () => {
  localStorage.setItem("graphiql:theme", "dark");
  localStorage.setItem("graphiql:variables", SECRET);
  localStorage.setItem("graphiql:headers", SECRET);
  localStorage.setItem("graphiql:query", QUERY);
  localStorage.setItem("graphiql:tabState", tabs(DOCUMENTS_WITH_SECRETS[0] ?? ""));
  localStorage.setItem("graphiql:queries", history("queries", ...DOCUMENTS_WITH_SECRETS, QUERY));
  localStorage.setItem("graphiql:favorites", `{ not JSON ${SECRET}`);
  localStorage.setItem("other", "stays");
  const storage = new SecretFreeStorage();
  expect(JSON.stringify({ ...localStorage })).not.toContain(SECRET);
  expect(Object.keys(localStorage).sort()).toEqual([
    "graphiql:queries",
    "graphiql:query",
    "graphiql:tabState",
    "graphiql:theme",
    "other",
  ]);
  expect(storage.getItem("graphiql:query")).toBe(QUERY);
});

test("the history refuses an operation with a secret, and keeps what it has", () => {
  const storage = new SecretFreeStorage();
  storage.setItem("graphiql:queries", history("queries", QUERY));
  const next = history("queries", QUERY, DOCUMENTS_WITH_SECRETS[0] ?? "");
  expect(() => storage.setItem("graphiql:queries", next)).toThrow();
  expect(storage.getItem("graphiql:queries")).toContain("Systems");
  expect(storage.getItem("graphiql:queries")).not.toContain(SECRET);
});

test("nothing is left when the operator signs out, and nothing is stored after that", () => {
  const storage = new SecretFreeStorage();
  storage.setItem("graphiql:query", QUERY);
  localStorage.setItem("other", "stays");
  clearGraphiql();
  expect(Object.keys(localStorage)).toEqual(["other"]);
  storage.close();
  storage.setItem("graphiql:query", QUERY);
  expect(storage.length).toBe(0);
});
