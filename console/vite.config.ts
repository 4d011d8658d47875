import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const page = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export default defineConfig({
  // Only the console has JSX: a preset would alias React for GraphiQL's page too.
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    target: "es2022",
    // A data URI would break the Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 5000,
    rolldownOptions: {
      input: { console: page("index.html"), graphiql: page("graphiql.html") },
      // GraphiQL's dependencies carry "use client" in a hundred files.
      checks: { moduleLevelDirective: false },
    },
  },
});
