import { defineConfig } from "vite";

// The bundle is named by its content and asks for nothing but itself, so that one strict Content-Security-Policy holds.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../build/console",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { host: "127.0.0.1", proxy: { "^/weft\\.": "http://127.0.0.1:8080", "/v1": "http://127.0.0.1:8080" } },
});
