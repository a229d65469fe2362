import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

import { xtermUnderPolicy } from "./scripts/xterm.mjs";

// The bundle is committed, so the same sources must give the same bytes: no time, no path, no environment.
export default defineConfig({
  plugins: [react(), xtermUnderPolicy()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // What a first visit loads is measured, compressed, by scripts/check.mjs.
    chunkSizeWarningLimit: 1_000,
    sourcemap: false,
    license: { fileName: "licenses.md" },
  },
  test: { environment: "node", include: ["test/**/*.test.ts"] },
});
