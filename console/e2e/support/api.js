import assert from "node:assert/strict";
import { operator } from "./keymark.js";

/** The API as an integrator's program uses it: with a bearer token. */
export async function signedIn(keymark) {
  const { signIn } = await send(
    keymark,
    undefined,
    `mutation ($username: String!, $password: String!) {
      signIn(username: $username, password: $password) { token }
    }`,
    operator,
  );
  const { token } = signIn;
  const query = (document, variables) => send(keymark, token, document, variables);
  return {
    token,
    query,

    /** The newest change's cursor: what comes after it is still to come. */
    async latestChange() {
      const { auditLog } = await query("{ auditLog(first: 1) { nodes { cursor } } }");
      return auditLog.nodes[0].cursor;
    },

    async createSystem(name) {
      const data = await query(
        "mutation ($name: String!) { createSystem(name: $name) { system { id } } }",
        { name },
      );
      return data.createSystem.system.id;
    },

    /** Many at once, a few requests at a time. */
    async createSystems(names) {
      const document = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
      const left = Array.from(names);
      const create = async () => {
        for (let name = left.pop(); name !== undefined; name = left.pop()) {
          await query(document, { name });
        }
      };
      await Promise.all(Array.from({ length: 8 }, create));
    },

    async renameSystem(id, name) {
      await query(
        "mutation ($id: ID!, $name: String!) { renameSystem(id: $id, name: $name) { system { id } } }",
        { id, name },
      );
    },

    async generateKey(systemId) {
      const data = await query(
        "mutation ($systemId: ID!) { generateKey(systemId: $systemId) { apiKey } }",
        { systemId },
      );
      return data.generateKey.apiKey;
    },

    async deleteSystem(id) {
      await query("mutation ($id: ID!) { deleteSystem(id: $id) { deletedSystemId } }", { id });
    },
  };
}

async function send(keymark, token, query, variables = {}) {
  const response = await fetch(keymark.graphql, {
    method: "POST",
    headers: {
      accept: "application/graphql-response+json",
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined);
  return data;
}

/** What a gateway is told about a key. */
export async function verdictOn(keymark, apiKey) {
  const response = await fetch(keymark.verification, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ apiKey }),
  });
  assert.equal(response.status, 200);
  return (await response.json()).code;
}
