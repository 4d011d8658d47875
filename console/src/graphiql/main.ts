import "./workers";
import { GraphiQL } from "graphiql";
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { fetcher } from "./fetcher";
import { onGraphiqlCleared, SecretFreeStorage } from "./storage";
// Not graphiql/style.css: it repeats Monaco's styles, which Monaco's modules already import.
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./graphiql.css";

const DEFAULT_QUERY = `# Sign in to the console first. Mutations, variables and results are not stored in the browser.
query Systems {
  systems(first: 10) {
    nodes {
      name
      keyMark
      updatedAt
    }
  }
}
`;

const root = document.getElementById("graphiql");
if (root === null) throw new Error("graphiql.html has no #graphiql");
const storage = new SecretFreeStorage();
onGraphiqlCleared(() => {
  storage.close();
  // Removes what the editors and the result show.
  location.reload();
});
createRoot(root).render(
  createElement(GraphiQL, {
    fetcher,
    storage,
    defaultQuery: DEFAULT_QUERY,
    // Headers would hold tokens.
    isHeadersEditorEnabled: false,
    shouldPersistHeaders: false,
  }),
);
