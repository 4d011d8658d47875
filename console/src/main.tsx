import { render } from "preact";
import { App } from "./app";
import { startTheme } from "./theme/theme";

const root = document.getElementById("console");
if (root === null) throw new Error("index.html has no #console");
startTheme();
render(<App />, root);
