// An engine in another language: the `process` kind's JSON lines in Node.js, without a package.
//
//     enginehouse spawn process --config '{"argv": ["node", "examples/jsonl-engine.mjs"]}'
//
// A run's input is a text; the result is the number of its words. The language is told in docs/engine-protocol.md.

import { createInterface } from "node:readline";

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

say({ type: "hello", protocol: 1 });

for await (const line of createInterface({ input: process.stdin })) {
  const { type, id, input } = JSON.parse(line);
  if (type === "stop") process.exit();
  if (type !== "run") continue;
  if (typeof input !== "string") {
    say({ type: "error", id, slug: "bad-input", detail: "Give a text." });
    continue;
  }
  const words = input.split(/\s+/).filter(Boolean).length;
  say({ type: "event", id, name: "counted", data: { words } });
  say({ type: "result", id, result: { words } });
}
