import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const BINARY = resolve(process.env.KEYMARK_BIN ?? "../target/debug/keymark");
const PASSWORD = "correct horse battery staple";

export const operator = { username: "admin", password: PASSWORD };

/** A server of its own for a test: fresh data, free ports, gone afterwards. */
export async function startKeymark() {
  const dataDir = await mkdtemp(join(tmpdir(), "keymark-e2e-"));
  let running = await launch(dataDir, "127.0.0.1:0", "127.0.0.1:0");
  const { console, verification } = running;
  return {
    console,
    verification,
    graphql: new URL("/graphql", console).href,
    webSocket: new URL("/graphql", console).href.replace("http:", "ws:"),

    /** Stops it, does something meanwhile, and starts it again at the same addresses. */
    async restart(meanwhile = async () => {}) {
      await terminate(running.process);
      await meanwhile();
      running = await launch(dataDir, new URL(console).host, new URL(verification).host);
    },

    async stop() {
      await terminate(running.process);
      await rm(dataDir, { recursive: true });
    },
  };
}

async function launch(dataDir, listen, verifyListen) {
  const process = spawn(
    BINARY,
    ["--data-dir", dataDir, "--listen", listen, "--verify-listen", verifyListen],
    {
      env: {
        PATH: globalThis.process.env.PATH,
        KEYMARK_INITIAL_ADMIN_PASSWORD: PASSWORD,
        KEYMARK_LOG: "warn",
      },
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const addresses = {};
  for await (const line of createInterface({ input: process.stdout })) {
    const [, name, address] = /^(Console|Verification)\s+(http\S+)$/.exec(line) ?? [];
    if (name !== undefined) addresses[name.toLowerCase()] = address;
    if (addresses.console && addresses.verification) {
      process.stdout.resume();
      return { process, ...addresses };
    }
  }
  throw new Error(`${BINARY} stopped before it said its addresses`);
}

async function terminate(process) {
  if (process.exitCode !== null || process.signalCode !== null) return;
  const exited = once(process, "exit");
  process.kill("SIGTERM");
  await exited;
}
