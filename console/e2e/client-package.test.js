import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, afterEach, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { signInToApi } from "./support/api.js";
import { operator, startKeymark } from "./support/keymark.js";

const PACKAGE = resolve("../clients/typescript");
const MODULES = join(PACKAGE, "node_modules");
/** Packed from where they are installed, so that no registry is needed. */
const DEPENDENCIES = [
  join(MODULES, "@graphql-typed-document-node/core"),
  join(MODULES, "graphql"),
  join(MODULES, "graphql-ws"),
  resolve("node_modules/ws"),
];
const EXAMPLE = "follow-systems.mjs";
const run = promisify(execFile);

describe("the packed TypeScript client", () => {
  const running = [];
  let keymark;
  let folder;
  let packed;

  before(async () => {
    keymark = await startKeymark();
    folder = await mkdtemp(join(tmpdir(), "keymark-e2e-client-"));
    const npm = (cwd, ...args) =>
      run("npm", args, { cwd, env: { ...process.env, npm_config_cache: join(folder, "cache") } });
    const pack = async (cwd, ...args) => {
      const { stdout } = await npm(cwd, "pack", "--json", "--pack-destination", folder, ...args);
      // What the scripts of the package print is before it.
      return JSON.parse(stdout.slice(stdout.search(/^\[/m)));
    };
    [packed] = await pack(PACKAGE);
    const dependencies = await pack(folder, "--ignore-scripts", ...DEPENDENCIES);
    await writeFile(join(folder, "package.json"), '{ "type": "module" }');
    const archives = [packed, ...dependencies].map(({ filename }) => `./${filename}`);
    await npm(folder, "install", "--offline", "--no-audit", "--no-fund", ...archives);
    await cp(join(PACKAGE, "examples", EXAMPLE), join(folder, EXAMPLE));
  });
  after(async () => {
    await keymark?.stop();
    await rm(folder, { recursive: true });
  });
  afterEach(() => Promise.all(running.splice(0).map((stop) => stop())));

  /** Starts the example in the folder where the package is installed. */
  function startExample(env) {
    const example = spawn(process.execPath, [EXAMPLE], {
      cwd: folder,
      env: { PATH: process.env.PATH, KEYMARK_URL: keymark.graphql, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const exited = once(example, "exit");
    running.push(async () => {
      example.kill();
      await exited;
    });
    const errors = [];
    example.stderr.on("data", (chunk) => errors.push(chunk));
    const lines = createInterface({ input: example.stdout })[Symbol.asyncIterator]();
    return {
      async line() {
        const { value } = await lines.next();
        assert.notEqual(value, undefined, `the example ended: ${Buffer.concat(errors)}`);
        return value;
      },
      async end() {
        const [code] = await exited;
        return { code, stderr: String(Buffer.concat(errors)) };
      },
    };
  }

  async function startProxy() {
    const proxy = await proxyTo(new URL(keymark.console));
    running.push(proxy.cut);
    return proxy;
  }

  test("contains types, documents and the example, in the version of Keymark", async () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ["dist/index.js", "dist/index.d.ts", "documents/systems.graphql"]) {
      assert.ok(paths.includes(path), path);
    }
    assert.ok(paths.includes(`examples/${EXAMPLE}`));
    const cargo = await readFile("../Cargo.toml", "utf8");
    assert.equal(packed.version, /^version = "(.*)"$/m.exec(cargo)[1]);
  });

  test("has types that the example satisfies", async () => {
    await writeFile(join(folder, "ws.d.ts"), 'declare module "ws";');
    const strict = ["--noEmit", "--strict", "--allowJs", "--checkJs"];
    const node = ["--module", "nodenext", "--target", "es2022", "--types", "node"];
    const roots = ["--typeRoots", join(MODULES, "@types")];
    const tsc = join(MODULES, "typescript/bin/tsc");
    await run(process.execPath, [tsc, ...strict, ...node, ...roots, EXAMPLE, "ws.d.ts"], {
      cwd: folder,
    }).catch(({ stdout }) => assert.fail(stdout));
  });

  test("receives each change once, through lost connections and a restart of the server", async () => {
    const api = await signInToApi(keymark);
    await api.createSystem("Before");
    const proxy = await startProxy();
    const example = startExample({ KEYMARK_URL: proxy.url, KEYMARK_TOKEN: api.token });
    assert.equal(await example.line(), "LOADED Before");

    const names = Array.from({ length: 100 }, (_, at) => `During ${at}`);
    const created = api.createSystems(names);
    const lines = [];
    while (lines.length < 20) lines.push(await example.line());
    await proxy.cut();
    await created;
    await api.createSystem("While cut off");
    await proxy.restore();
    while (lines.length < 101) lines.push(await example.line());
    const expected = [...names, "While cut off"].map((name) => `CREATED ${name}`);
    assert.deepEqual(lines.toSorted(), expected.toSorted());

    await keymark.restart(() => undefined);
    const id = await api.createSystem("After the restart");
    await api.deleteSystem(id);
    assert.equal(await example.line(), "CREATED After the restart");
    assert.equal(await example.line(), `DELETED ${id}`);
  });

  test("loads everything again when the store was restored from a backup", async () => {
    const api = await signInToApi(keymark);
    const example = startExample({ KEYMARK_TOKEN: api.token });
    assert.match(await example.line(), /^LOADED /);
    const { dataDir } = keymark;
    const backup = `${dataDir}.backup`;
    await keymark.restart(() => cp(dataDir, backup, { recursive: true }));
    await api.createSystem("Lost");
    assert.equal(await example.line(), "CREATED Lost");

    await keymark.restart(async () => {
      await rm(dataDir, { recursive: true });
      await rename(backup, dataDir);
    });
    const loaded = await example.line();
    assert.match(loaded, /^LOADED /);
    assert.doesNotMatch(loaded, /Lost/);
    await api.createSystem("Found");
    assert.equal(await example.line(), "CREATED Found");
  });

  const takenAway = [
    ["the session", ["remove", "leaver"], /4403/],
    ["the permission", ["set-permissions", "leaver", "create"], /api_key_management:view/],
  ];
  for (const [what, command, message] of takenAway) {
    test(`ends with the reason when ${what} is taken away`, async () => {
      const [, leaver] = command;
      await keymark.manageOperator("add", leaver, "--permissions=view", "--password-stdin");
      const { password } = operator;
      const example = startExample({ KEYMARK_USERNAME: leaver, KEYMARK_PASSWORD: password });
      assert.match(await example.line(), /^LOADED /);
      // It subscribes only after it has loaded. A subscription without a session is refused by an error, not by 4403.
      const api = await signInToApi(keymark);
      await api.createSystem(`Before ${what} is taken away`);
      assert.equal(await example.line(), `CREATED Before ${what} is taken away`);
      await keymark.manageOperator(...command);
      const { code, stderr } = await example.end();
      assert.equal(code, 1);
      assert.match(stderr, message);
    });
  }
});

/** Starts a TCP proxy. `cut` breaks its connections and refuses others until `restore`. */
async function proxyTo({ hostname, port }) {
  const open = new Set();
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        open.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream).pipe(client);
  });
  const listen = async (at) => {
    server.listen(at, "127.0.0.1");
    await once(server, "listening");
    return server.address().port;
  };
  const own = await listen(0);
  return {
    url: `http://127.0.0.1:${own}/graphql`,
    async cut() {
      const closed = once(server, "close");
      server.close();
      for (const socket of open) socket.resetAndDestroy();
      await closed;
    },
    restore: () => listen(own),
  };
}
