import { render } from "preact";
import { App } from "./app";

const root = document.getElementById("console");
if (root === null) throw new Error("index.html has no #console");
render(<App />, root);
