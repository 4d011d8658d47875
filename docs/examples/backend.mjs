// A backend that gives an application of a customer an API key.
//
//   KEYMARK_TOKEN=kmt_… node backend.mjs cus_42 "Billing of Acme"
import { ClientError, GraphQLClient } from "graphql-request";

const [externalId, name] = process.argv.slice(2);
const { KEYMARK_URL = "http://127.0.0.1:8080/graphql", KEYMARK_TOKEN } = process.env;
if (!KEYMARK_TOKEN || !name) {
  console.error("usage: KEYMARK_TOKEN=kmt_… [KEYMARK_URL=…] node backend.mjs EXTERNAL_ID NAME");
  process.exit(2);
}
const headers = { authorization: `Bearer ${KEYMARK_TOKEN}` };
const keymark = new GraphQLClient(KEYMARK_URL, { headers });

try {
  const create = "mutation ($name: String!) { createSystem(name: $name) { system { id } } }";
  const { createSystem } = await keymark.request(create, { name });
  const { id } = createSystem.system;
  const identify = `mutation ($id: ID!, $externalId: String) {
    setExternalId(systemId: $id, externalId: $externalId) { system { externalId } }
  }`;
  await keymark.request(identify, { id, externalId });
  // Last and alone: if another field of its request failed, the error would replace the key.
  const generate = "mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }";
  const { generateKey } = await keymark.request(generate, { id });
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
