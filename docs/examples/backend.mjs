// A backend that gives an application of a customer an API key.
//
//   KEYMARK_TOKEN=kmt_… node backend.mjs cus_42 "Billing of Acme"
import { ClientError, GraphQLClient } from "graphql-request";

const [externalId, name] = process.argv.slice(2);
const { KEYMARK_URL = "http://127.0.0.1:8080/graphql", KEYMARK_TOKEN } = process.env;
const headers = { authorization: `Bearer ${KEYMARK_TOKEN}` };
const keymark = new GraphQLClient(KEYMARK_URL, { headers });

try {
  const create = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
  const { createSystem } = await keymark.request(create, { name });
  const generate = `mutation ($id: ID!, $externalId: String) {
    setExternalId(systemId: $id, externalId: $externalId) { system { externalId } }
    generateKey(systemId: $id) { apiKey }
  }`;
  const { id } = createSystem.system;
  const { generateKey } = await keymark.request(generate, { id, externalId });
  console.log(generateKey.apiKey); // It is shown once: hand it over, and keep it nowhere.
} catch (error) {
  if (!(error instanceof ClientError)) throw error;
  for (const { message, extensions } of error.response.errors ?? [])
    console.error(`${extensions.code}: ${message}`);
  // graphql-request does not read the body of another status than 200.
  if (error.response.status === 401)
    console.error("UNAUTHENTICATED: the token is invalid, expired or revoked.");
  process.exitCode = 1;
}
