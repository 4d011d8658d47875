// Lists the systems of a tenant, and prints each change of one, through lost connections and restarts of the server.
//
//   KEYMARK_URL=https://keys.example.com/graphql KEYMARK_TOKEN=… node follow-systems.mjs
//
// Without KEYMARK_TOKEN, it signs in with KEYMARK_USERNAME and KEYMARK_PASSWORD. Ctrl+C ends it.
import { connect, KeymarkError } from "@keymark/client";
import {
  SignInForTokenDocument,
  SystemChangedDocument,
  SystemsDocument,
} from "@keymark/client/documents";
import WebSocket from "ws"; // Node.js has its own from version 22 on.

const env = process.env;
const url = env.KEYMARK_URL ?? "http://127.0.0.1:8080/graphql";
const token =
  env.KEYMARK_TOKEN ?? (await signIn(env.KEYMARK_USERNAME ?? "", env.KEYMARK_PASSWORD ?? ""));
const keymark = connect({ url, token, webSocketImpl: WebSocket });
const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort());

/**
 * The systems by id. A change may be in a loaded page already, so that the newest revision counts.
 *
 * @type {Map<string, import("@keymark/client/documents").SystemPartsFragment>}
 */
const systems = new Map();

try {
  await keymark.follow(SystemChangedDocument, {
    signal: interrupted.signal,
    onLoad: load,
    onData({ systemChanged: { kind, systemId, system } }) {
      if (system === null) systems.delete(systemId);
      else if (system.revision >= (systems.get(systemId)?.revision ?? 0))
        systems.set(systemId, system);
      console.log(`${kind} ${system?.name ?? systemId}`);
    },
  });
} catch (error) {
  if (!(error instanceof KeymarkError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  keymark.close();
}

async function load() {
  systems.clear();
  /** @type {import("@keymark/client/documents").SystemsQuery["systems"]["pageInfo"] | undefined} */
  let pageInfo;
  do {
    const after = pageInfo?.endCursor ?? null;
    const page = await keymark.request(SystemsDocument, { first: 100, after });
    for (const system of page.systems.nodes) systems.set(system.id, system);
    pageInfo = page.systems.pageInfo;
  } while (pageInfo.hasNextPage);
  const names = [...systems.values()].map(({ name }) => name);
  console.log(`LOADED ${names.join(", ")}`);
}

/**
 * @param {string} username
 * @param {string} password
 */
async function signIn(username, password) {
  const { signIn } = await connect({ url }).request(SignInForTokenDocument, { username, password });
  return signIn.token;
}
