// An engine in another language: the `process` kind's JSON lines in Node.js, without a package.
//
//     enginehouse spawn process --config '{"argv": ["node", "examples/jsonl-engine.mjs"]}'
//
// A run's input is a text; the result is the number of its words. It counts one word at a time, so that it can stand
// still, be cancelled, and go on where it was. The language is told in docs/engine-protocol.md.

import { createInterface } from "node:readline";

const EVERY = 1000; // words between two snapshots
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

let run = null; // { id, words, done }
let paused = false;

function step() {
  if (run === null || paused) return;
  const { id, words } = run;
  if (run.done < words.length) {
    run.done += 1;
    if (run.done % EVERY === 0) {
      say({ type: "snapshot", id, value: { run: id, done: run.done } });
      say({ type: "progress", id, data: { done: run.done } });
    }
    setImmediate(step);
    return;
  }
  say({ type: "event", id, name: "counted", data: { words: words.length } });
  say({ type: "usage", id, amounts: { words: words.length } });
  say({ type: "result", id, result: { words: words.length } });
  run = null;
}

const hear = {
  __proto__: null, // a message that is not known is no method of every object either
  run({ id, input, resumed, snapshot }) {
    if (typeof input !== "string") {
      say({ type: "error", id, slug: "bad-input", detail: "Give a text." });
      return;
    }
    const done = resumed && snapshot?.run === id ? snapshot.done : 0;
    run = { id, words: input.split(/\s+/).filter(Boolean), done };
    step();
  },
  cancel({ id }) {
    if (run?.id !== id) return;
    say({ type: "error", id, slug: "cancelled", detail: `Cancelled after ${run.done} words.` });
    run = null;
  },
  pause({ number }) {
    paused = true;
    say({ type: "paused", number });
  },
  resume() {
    paused = false;
    step();
  },
  stop() {
    process.exit();
  },
};

say({ type: "hello", protocol: 1, ready: false, heartbeat_s: 1, pause: true, resume: true });
setInterval(() => say({ type: "heartbeat" }), 1000).unref();
say({ type: "ready" }); // a program that has to load something says this when it has

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  hear[message.type]?.(message);
}
process.exit(); // nobody is there any more
