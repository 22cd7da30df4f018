// Makes a sandbox, runs a command in it, removes it. usage: node example.js [SOCKET]
"use strict";

const path = require("node:path");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const protos = ["sandboxd/v1/sandbox.proto", "sandboxd/v1/process.proto"];
const definition = loadSync(protos, {
  includeDirs: [path.join(__dirname, "../../proto")],
  keepCase: true, // sandbox_id, not sandboxId
  enums: String,
  oneofs: true,
});
const { SandboxService, ProcessService } = grpc.loadPackageDefinition(definition).sandboxd.v1;

const inSeconds = (n) => ({ deadline: Date.now() + n * 1000 });

// Prints what the command prints, as it comes; returns its exit status.
async function run(processes, sandbox_id, ...args) {
  const request = { sandbox_id, args, kill_on_disconnect: true };
  for await (const response of processes.Start(request, inSeconds(60))) {
    if (response.event === "data") {
      const { stream, data } = response.data;
      (stream === "OUTPUT_STREAM_STDERR" ? process.stderr : process.stdout).write(data);
    } else if (response.event === "end") {
      return response.end.exit_code;
    }
  }
}

async function main(socket) {
  const credentials = grpc.credentials.createInsecure();
  const sandboxes = new SandboxService(`unix:${socket}`, credentials);
  const processes = new ProcessService(`unix:${socket}`, credentials);
  const call = (method, request, deadline) =>
    promisify(sandboxes[method]).call(sandboxes, request, deadline);

  const { sandbox } = await call("Create", {}, inSeconds(60));
  console.log("created", sandbox.id);
  try {
    const script = "echo to stdout; echo to stderr >&2; exit 3";
    console.log("exit status", await run(processes, sandbox.id, "sh", "-c", script));
    try {
      await call("Get", { sandbox_id: "no-such-box" }, inSeconds(10));
    } catch (e) {
      console.log(`${grpc.status[e.code]}: ${e.details}`);
    }
  } finally {
    await call("Delete", { sandbox_id: sandbox.id }, inSeconds(60));
    console.log("deleted");
  }
}

main(process.argv[2] ?? process.env.SANDBOXD_SOCKET ?? "/run/sandboxd/sandboxd.sock");
