import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const page = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export default defineConfig({
  // Not @preact/preset-vite, which would also alias the React of GraphiQL's page. Only the console has JSX.
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  resolve: {
    // Its sources, as in tsconfig.json: the console needs no build of it.
    alias: {
      "@keymark/client/documents": page("../clients/typescript/src/documents.ts"),
      "@keymark/client": page("../clients/typescript/src/index.ts"),
    },
    dedupe: ["graphql", "graphql-ws"],
  },
  build: {
    target: "es2022",
    // The Content-Security-Policy forbids data URIs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 5000,
    rolldownOptions: {
      input: { console: page("index.html"), graphiql: page("graphiql.html") },
      // A hundred files of GraphiQL's dependencies have a "use client" directive.
      checks: { moduleLevelDirective: false },
    },
  },
});
