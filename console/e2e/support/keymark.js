import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { startMongod } from "./mongod.js";

const BINARY = resolve(process.env.KEYMARK_BIN ?? "../target/debug/keymark");
const PASSWORD = "correct horse battery staple";
const ANY_PORT = "127.0.0.1:0";

export const operator = { username: "admin", password: PASSWORD };

/** Starts a server on an empty embedded store and free ports; `stop` removes its data. */
export const startKeymark = () => startEmbedded({ KEYMARK_INITIAL_ADMIN_PASSWORD: PASSWORD });

/** Starts a server that generates the first password, which is its `password`. */
export const startWithGeneratedPassword = () => startEmbedded({});

/** Starts a server whose console is served over TLS, with a certificate that no browser trusts. */
export async function startOverTls() {
  const files = await mkdtemp(join(tmpdir(), "keymark-e2e-tls-"));
  const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => join(files, name));
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const subject = ["-subj", "/CN=localhost", "-days", "1"];
  const openssl = spawn(
    "openssl",
    ["req", "-x509", ...curve, ...subject, "-keyout", key, "-out", certificate],
    { stdio: "ignore" },
  );
  const [code] = await once(openssl, "exit");
  assert.equal(code, 0);
  const instance = await startEmbedded({
    KEYMARK_INITIAL_ADMIN_PASSWORD: PASSWORD,
    KEYMARK_TLS_CERT: certificate,
    KEYMARK_TLS_KEY: key,
  });
  return {
    ...instance,
    async stop() {
      await instance.stop();
      await rm(files, { recursive: true });
    },
  };
}

async function startEmbedded(settings) {
  const dataDir = await mkdtemp(join(tmpdir(), "keymark-e2e-"));
  const instance = await startInstance({ ...settings, KEYMARK_DATA_DIR: dataDir });
  return {
    ...instance,
    dataDir,
    async stop() {
      await instance.stop();
      await rm(dataDir, { recursive: true });
    },
  };
}

/** Starts two instances on one MongoDB, and returns the first, with the second as `other`. */
export async function startCluster() {
  const mongod = await startMongod();
  const settings = {
    KEYMARK_INITIAL_ADMIN_PASSWORD: PASSWORD,
    KEYMARK_MONGODB_URI: mongod.uri,
    KEYMARK_SECRET: "a secret of the browser tests alone, of 32 bytes and more",
  };
  const instance = await startInstance(settings);
  const other = await startInstance(settings);
  return {
    ...instance,
    other,
    async stop() {
      await Promise.all([instance.stop(), other.stop()]);
      await mongod.stop();
    },
  };
}

async function startInstance(settings) {
  let running = await launch(settings, ANY_PORT, ANY_PORT);
  const { console, verification, password } = running;
  return {
    console,
    verification,
    password,
    graphql: new URL("/graphql", console).href,
    webSocket: new URL("/graphql", console).href.replace("http:", "ws:"),

    /** Runs `keymark operator …` while the server is running. All operators have the same password. */
    async manageOperator(...arguments_) {
      // Only with this option does the command read its input; otherwise writing to it may fail once it has exited.
      const takesPassword = arguments_.includes("--password-stdin");
      const command = spawn(BINARY, ["operator", ...arguments_], {
        env: { PATH: process.env.PATH, KEYMARK_LOG: "warn", ...settings },
        stdio: [takesPassword ? "pipe" : "ignore", "ignore", "inherit"],
      });
      command.stdin?.end(`${PASSWORD}\n`);
      const [code] = await once(command, "exit");
      assert.equal(code, 0);
    },

    /** Stops the instance, runs `whileStopped`, and starts it again at the same addresses. */
    async restart(whileStopped) {
      await terminate(running.server);
      await whileStopped();
      running = await launch(settings, new URL(console).host, new URL(verification).host);
    },

    stop: () => terminate(running.server),
  };
}

async function launch(settings, listen, verifyListen) {
  const server = spawn(BINARY, ["--listen", listen, "--verify-listen", verifyListen], {
    env: {
      PATH: process.env.PATH,
      KEYMARK_LOG: "warn",
      ...settings,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const printed = {};
  const isPasswordGiven = settings.KEYMARK_INITIAL_ADMIN_PASSWORD !== undefined;
  for await (const line of createInterface({ input: server.stdout })) {
    const [, name, value] = /^(Console|Verification|Password)\s+(\S+)$/.exec(line) ?? [];
    if (name !== undefined) printed[name.toLowerCase()] = value;
    if (printed.console && printed.verification && (isPasswordGiven || printed.password)) {
      server.stdout.resume();
      return { server, ...printed };
    }
  }
  throw new Error(`${BINARY} exited before it printed its addresses`);
}

async function terminate(server) {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exited = once(server, "exit");
  server.kill("SIGTERM");
  await exited;
}
