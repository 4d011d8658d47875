// @vitest-environment happy-dom
import { expect, test } from "vitest";
import { type ListPage, useList } from "../src/live/use-list";
import { eventually } from "./support/eventually";
import { entry, show } from "./support/render";

interface Row {
  name: string;
}

interface Request {
  first: number;
  after: string | null;
  respond: (page: ListPage<Row>) => void;
}

/** Shows a list, whose requests the test answers. */
function showList() {
  const requests: Request[] = [];
  function Names() {
    const list = useList<Row>({
      actions: ["OPERATOR_ADDED"],
      load: ({ first, after }) =>
        new Promise((resolve) => {
          const respond = (page: ListPage<Row>) => resolve({ page, error: undefined });
          requests.push({ first, after, respond });
        }),
    });
    return (
      <>
        <p>{list.rows?.map(({ name }) => name).join() ?? "loading"}</p>
        <button type="button" onClick={list.loadMore}>
          More
        </button>
      </>
    );
  }
  return { ...show(<Names />, { permissions: ["view"] }), requests };
}

const page = (names: readonly string[], endCursor: string | null = null): ListPage<Row> => ({
  nodes: names.map((name) => ({ name })),
  pageInfo: { hasNextPage: endCursor !== null, endCursor },
  totalCount: names.length,
});

const added = { auditLogAppended: { ...entry, action: "OPERATOR_ADDED" } };

test("a response that a change has overtaken is not shown, and the list is loaded again", async () => {
  const { requests, send, text } = showList();
  await eventually(() => expect(requests.length).toBe(1));
  send("AuditLogAppended", added);
  requests[0]?.respond(page(["before"]));
  await eventually(() => expect(requests.length).toBe(2));
  expect(text()).toContain("loading");
  requests[1]?.respond(page(["after"]));
  await eventually(() => expect(text()).toContain("after"));
  expect(requests.length).toBe(2);
});

test("a longer list is loaded in as few pages as the server allows, from the start", async () => {
  const { requests, button, text } = showList();
  const names = (count: number) => Array.from({ length: count }, (_, at) => `n${at}`);
  await eventually(() => expect(requests.length).toBe(1));
  expect(requests[0]).toMatchObject({ first: 50, after: null });
  requests[0]?.respond(page(names(150), "c150"));
  await eventually(() => expect(text()).toContain("n149"));
  button("More")?.click();
  await eventually(() => expect(requests.length).toBe(2));
  expect(requests[1]).toMatchObject({ first: 200, after: null });
  requests[1]?.respond(page(names(200), "c200"));
  await eventually(() => expect(requests.length).toBe(3));
  expect(requests[2]).toMatchObject({ first: 100, after: "c200" });
  requests[2]?.respond(page(["last"]));
  await eventually(() => expect(text()).toContain("last"));
});
