// The part of Keymark's schema that is compared, for servers on graphql-js, and where they read systems from.
import { PubSub } from "graphql-subscriptions";
import { MongoClient } from "mongodb";

export const typeDefs = `
  type System {
    id: ID!
    name: String!
    keyState: String!
    keyMark: String
    revision: Int!
    createdAt: String!
    updatedAt: String!
  }
  type PageInfo {
    endCursor: String
    hasNextPage: Boolean!
  }
  type SystemConnection {
    nodes: [System!]!
    pageInfo: PageInfo!
  }
  type Actor {
    name: String!
  }
  type AuditEntry {
    number: Int!
    actor: Actor!
  }
  type SystemChange {
    cursor: String!
    kind: String!
    systemId: ID!
    occurredAt: String!
    system: System
    entry: AuditEntry!
  }
  type RenameSystemPayload {
    system: System!
  }
  type Query {
    systems(first: Int = 50, search: String): SystemConnection!
  }
  type Mutation {
    renameSystem(id: ID!, name: String!): RenameSystemPayload!
  }
  type Subscription {
    systemChanged(after: String): SystemChange!
  }
`;

/** A pattern that a name which contains the text matches. */
const containing = (text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

function rowsInMemory(count) {
  const digits = String(count - 1).length;
  const at = new Date(0).toISOString();
  const rows = Array.from({ length: count }, (_, number) => ({
    id: `sys_${String(number).padStart(26, "0")}`,
    name: `System ${String(number).padStart(digits, "0")} ${number % Math.ceil(count / 20) === 0 ? "rarity" : "plenty"}`,
    keyState: number % 2 === 0 ? "ACTIVE" : "NONE",
    keyMark: number % 2 === 0 ? "abcd" : null,
    revision: 1,
    createdAt: at,
    updatedAt: at,
  }));
  return {
    list(limit, search) {
      if (search === undefined) return rows.slice(0, limit);
      const pattern = new RegExp(containing(search), "i");
      const found = [];
      for (const row of rows) {
        if (found.length === limit) break;
        if (pattern.test(row.name)) found.push(row);
      }
      return found;
    },
    rename(id, name) {
      const row = rows.find((row) => row.id === id);
      Object.assign(row, { name, revision: row.revision + 1, updatedAt: new Date().toISOString() });
      return row;
    },
  };
}

/** Keymark's own documents, through the same index. */
async function rowsInMongoDb(uri, database, tenant) {
  const client = await MongoClient.connect(uri);
  const systems = client.db(database).collection("systems");
  return {
    async list(limit, search) {
      const filter =
        search === undefined ? {} : { name: { $regex: containing(search), $options: "i" } };
      const find = systems.find({ tenant, ...filter }, { batchSize: limit }).sort({ folded: 1 });
      const documents = await find.limit(limit).toArray();
      return documents.map(({ _id, name, key, revision, createdAt, updatedAt }) => ({
        id: _id,
        name,
        keyState: key ? "ACTIVE" : "NONE",
        keyMark: key?.mark ?? null,
        revision,
        createdAt: new Date(Number(createdAt)).toISOString(),
        updatedAt: new Date(Number(updatedAt)).toISOString(),
      }));
    },
  };
}

/** `memory COUNT`, or `mongodb URI DATABASE TENANT`. */
export async function rowsOf([kind, ...rest]) {
  return kind === "memory" ? rowsInMemory(Number(rest[0])) : rowsInMongoDb(...rest);
}

export function resolversOf(rows) {
  const changes = new PubSub();
  let entries = 0;
  return {
    Query: {
      async systems(_, { first, search }) {
        const found = await rows.list(first + 1, search);
        const nodes = found.slice(0, first);
        const endCursor =
          nodes.length > 0 ? Buffer.from(nodes.at(-1).id).toString("base64url") : null;
        return { nodes, pageInfo: { endCursor, hasNextPage: found.length > first } };
      },
    },
    Mutation: {
      renameSystem(_, { id, name }) {
        const system = rows.rename(id, name);
        entries += 1;
        const systemChanged = {
          cursor: Buffer.from(String(entries)).toString("base64url"),
          kind: "RENAMED",
          systemId: id,
          occurredAt: system.updatedAt,
          system,
          entry: { number: entries, actor: { name: "admin" } },
        };
        changes.publish("systems", { systemChanged });
        return { system };
      },
    },
    Subscription: {
      systemChanged: { subscribe: () => changes.asyncIterableIterator("systems") },
    },
  };
}

/** Prints the lines that the benchmark reads, and ends the process when the benchmark closes standard input. */
export function ready(...lines) {
  console.log(lines.join("\n"));
  process.stdin.on("end", () => process.exit()).resume();
}

export const addressOf = (server) => `127.0.0.1:${server.address().port}`;
