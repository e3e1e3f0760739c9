// Pushes with @parse/node-apn; `peers.py` installed it into the folder that the first argument names.
"use strict";

const fs = require("fs");
const path = require("path");

const [modules, factsFile, count] = process.argv.slice(2);
const apn = require(path.join(modules, "@parse", "node-apn"));
const facts = JSON.parse(fs.readFileSync(factsFile, "utf8"));
const CONCURRENT = 500; // its best of 250, 500 and 1000

async function push(provider, pushes) {
  const note = new apn.Notification();
  note.topic = facts.topic;
  note.pushType = "alert";
  note.priority = 10;
  note.rawPayload = JSON.parse(facts.payload);
  let next = 0;
  let accepted = 0;
  async function sender() {
    while (next < pushes) {
      const device = facts.tokens[next++ % facts.tokens.length];
      const result = await provider.send(note, device);
      accepted += result.sent.length;
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT }, sender));
  return accepted;
}

async function main() {
  const provider = new apn.Provider({
    token: { key: facts.private_key, keyId: "BENCHKEY01", teamId: "BENCHTEAM1" },
    address: "localhost",
    port: facts.port,
    ca: facts.ca_file,
    production: true,
  });
  const pushes = Number(count);
  await push(provider, pushes / 10);
  const before = process.cpuUsage();
  const begun = process.hrtime.bigint();
  const accepted = await push(provider, pushes);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  const used = process.cpuUsage(before);
  console.log(JSON.stringify({ accepted, seconds, cpu_s: (used.user + used.system) / 1e6 }));
  provider.shutdown();
}

main();
