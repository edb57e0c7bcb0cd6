// node's own http server: the same events, one write for each to each reader.
"use strict";
const http = require("node:http");
const perSecond = Number(process.argv[2]);
const readers = new Set();
const server = http.createServer((request, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(": hello\n\n");
  readers.add(response);
  response.on("close", () => readers.delete(response));
});
const since = performance.now();
let done = 0;
if (perSecond) {
  setInterval(() => {
    const due = Math.floor(((performance.now() - since) / 1000) * perSecond);
    for (; done < due; done++) {
      const envelope = { seq: done, engine_seq: done, id: `00000000.${done}`, type: "ticker.tick", engine_id: "ticker" };
      envelope.data = { t: Date.now() / 1000, text: "x".repeat(100) };
      const frame = `id: ${done}\nevent: ticker.tick\ndata: ${JSON.stringify(envelope)}\n\n`;
      for (const reader of readers) reader.write(frame);
    }
  }, 10);
}
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
process.on("SIGTERM", () => process.exit(0));
