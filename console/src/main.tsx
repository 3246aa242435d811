/** The console's page: put into the document, and nothing else. */

import "./design/tokens.css";
import "./design/frame.css";
import "./design/parts.css";
import "./design/controls.css";
import "./design/charts.css";
import { render } from "preact";
import { App } from "./app";

const root = document.getElementById("app");
if (root) render(<App />, root);
