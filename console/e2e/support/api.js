import assert from "node:assert/strict";
import { operator } from "./keymark.js";

/** Signs in as a program of an integrator does, with a bearer token, and returns the operations that tests need. */
export async function signInToApi(keymark, username = operator.username) {
  const { signIn } = await send(
    keymark,
    undefined,
    `mutation ($username: String!, $password: String!) {
      signIn(username: $username, password: $password) { token }
    }`,
    { ...operator, username },
  );
  const { token } = signIn;
  const query = (document, variables) => send(keymark, token, document, variables);
  const createSystem = async (name) => {
    const data = await query(
      "mutation ($name: String!) { createSystem(name: $name) { system { id } } }",
      { name },
    );
    return data.createSystem.system.id;
  };
  return {
    token,
    query,

    /** Returns the cursor of the newest change. */
    async latestCursor() {
      const { auditLog } = await query("{ auditLog(first: 1) { nodes { cursor } } }");
      return auditLog.nodes[0].cursor;
    },

    createSystem,

    /** Creates many systems, with a few requests at a time. */
    async createSystems(names) {
      const remaining = Array.from(names);
      const createRemaining = async () => {
        for (let name = remaining.pop(); name !== undefined; name = remaining.pop()) {
          await createSystem(name);
        }
      };
      await Promise.all(Array.from({ length: 8 }, createRemaining));
    },

    async renameSystem(id, name) {
      await query(
        "mutation ($id: ID!, $name: String!) { renameSystem(id: $id, name: $name) { system { id } } }",
        { id, name },
      );
    },

    async generateKey(systemId, expiresAt) {
      const data = await query(
        `mutation ($systemId: ID!, $expiresAt: DateTime) {
          generateKey(systemId: $systemId, expiresAt: $expiresAt) { apiKey }
        }`,
        { systemId, expiresAt },
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

/** Verifies a key as a gateway does, and returns the code of the verdict. */
export async function verify(keymark, apiKey) {
  const response = await fetch(keymark.verification, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ apiKey }),
  });
  assert.equal(response.status, 200);
  return (await response.json()).code;
}
