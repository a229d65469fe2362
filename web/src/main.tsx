import "./styles/base.css";
import "./styles/frame.css";
import "./styles/session.css";
import "./styles/prompts.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./app";
import { begin } from "./store/world";
import { beginAttention } from "./ui/attention";

begin();
beginAttention();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
