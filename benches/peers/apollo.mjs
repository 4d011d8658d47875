// Apollo Server with its standalone HTTP server, and graphql-ws for subscriptions on a port of its own. Prints the
// address of each. The arguments say where the systems are: `memory COUNT`, or `mongodb URI DATABASE TENANT`.
import { ApolloServer } from "@apollo/server";
import { startStandaloneServer } from "@apollo/server/standalone";
import { makeExecutableSchema } from "@graphql-tools/schema";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";
import { addressOf, ready, resolversOf, rowsOf, typeDefs } from "./systems.mjs";

const schema = makeExecutableSchema({
  typeDefs,
  resolvers: resolversOf(await rowsOf(process.argv.slice(2))),
});
const server = new ApolloServer({ schema });
const { url } = await startStandaloneServer(server, { listen: { host: "127.0.0.1", port: 0 } });
const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0, path: "/graphql" });
useServer({ schema }, sockets);
sockets.on("listening", () => ready(new URL(url).host, addressOf(sockets)));
