// GraphQL Yoga on Node's HTTP server. Prints its address. The arguments say where the systems are: `memory COUNT`, or
// `mongodb URI DATABASE TENANT`.
import { createServer } from "node:http";
import { createSchema, createYoga } from "graphql-yoga";
import { addressOf, ready, resolversOf, rowsOf, typeDefs } from "./systems.mjs";

const resolvers = resolversOf(await rowsOf(process.argv.slice(2)));
const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers }),
  logging: false,
  graphiql: false,
});
const server = createServer(yoga).listen(0, "127.0.0.1", () => ready(addressOf(server)));
