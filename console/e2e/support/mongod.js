import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { MongoClient } from "mongodb";

/** Installed by `scripts/mongod.sh`, which `make test` runs. */
const BINARY = resolve("../.tools/mongod");

/** Starts a replica set of one member; `stop` removes its data. */
export async function startMongod() {
  const dataDir = await mkdtemp(join(tmpdir(), "keymark-e2e-mongod-"));
  const port = await freePort();
  const mongod = spawn(
    BINARY,
    [
      ...["--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", String(port)],
      ...["--dbpath", dataDir, "--quiet", "--nounixsocket"],
    ],
    { stdio: "ignore" },
  );
  const host = `127.0.0.1:${port}`;
  const client = new MongoClient(`mongodb://${host}/?directConnection=true`);
  const members = [{ _id: 0, host }];
  await client.db("admin").command({ replSetInitiate: { _id: "rs0", members } });
  await client.close();
  return {
    uri: `mongodb://${host}/?replicaSet=rs0`,
    async stop() {
      const exited = once(mongod, "exit");
      mongod.kill("SIGKILL");
      await exited;
      await rm(dataDir, { recursive: true });
    },
  };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
