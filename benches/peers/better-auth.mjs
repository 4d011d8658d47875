// better-auth's API key plugin behind `POST /v1/verify` on Node's HTTP server. Prints its address and a key. The
// arguments say where the keys are: `memory`, or `mongodb URI DATABASE`.
import { createServer } from "node:http";
import { apiKey } from "@better-auth/api-key";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { mongodbAdapter } from "better-auth/adapters/mongodb";
import { MongoClient } from "mongodb";
import { addressOf, ready } from "./systems.mjs";

const [kind, uri, name] = process.argv.slice(2);
const tables = { user: [], session: [], account: [], verification: [], apikey: [] };
const database =
  kind === "memory"
    ? memoryAdapter(tables)
    : mongodbAdapter((await MongoClient.connect(uri)).db(name));
const auth = betterAuth({
  database,
  baseURL: "http://127.0.0.1",
  secret: "a secret for benchmarks, 32 bytes",
  emailAndPassword: { enabled: true },
  logger: { disabled: true },
  telemetry: { enabled: false },
  // A key of Keymark has no limit of calls either.
  plugins: [apiKey({ rateLimit: { enabled: false } })],
});
const signUp = { email: "owner@example.com", password: "correct horse battery", name: "Owner" };
const { user } = await auth.api.signUpEmail({ body: signUp });
const { key } = await auth.api.createApiKey({ body: { userId: user.id, name: "System" } });

async function verify(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const { apiKey: presented } = JSON.parse(Buffer.concat(parts));
  const { valid, key: found } = await auth.api.verifyApiKey({ body: { key: presented } });
  return JSON.stringify(
    valid ? { valid, code: "VALID", systemId: found.id } : { valid, code: "NOT_FOUND" },
  );
}

const server = createServer(async (request, response) => {
  const body = await verify(request);
  response
    .setHeader("content-type", "application/json")
    .setHeader("content-length", Buffer.byteLength(body));
  response.setHeader("cache-control", "no-store").end(body);
}).listen(0, "127.0.0.1", () => ready(addressOf(server), key));
