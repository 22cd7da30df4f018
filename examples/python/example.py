"""Makes a sandbox, runs a command in it, removes it. usage: example.py [SOCKET]"""

import os
import sys

import grpc
from sandboxd.v1.process_pb2 import OUTPUT_STREAM_STDERR, ProcessServiceStartRequest
from sandboxd.v1.process_pb2_grpc import ProcessServiceStub
from sandboxd.v1.sandbox_pb2 import (SandboxServiceCreateRequest, SandboxServiceDeleteRequest,
                                     SandboxServiceGetRequest)
from sandboxd.v1.sandbox_pb2_grpc import SandboxServiceStub


def run(processes, sandbox_id, *args):
    """Prints what the command prints, as it comes; returns its exit status."""
    request = ProcessServiceStartRequest(sandbox_id=sandbox_id, args=args, kill_on_disconnect=True)
    for response in processes.Start(request, timeout=60):
        event = response.WhichOneof("event")
        if event == "data":
            stderr = response.data.stream == OUTPUT_STREAM_STDERR
            output = sys.stderr.buffer if stderr else sys.stdout.buffer
            output.write(response.data.data)
            output.flush()
        elif event == "end":
            return response.end.exit_code


def main(socket):
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        sandboxes, processes = SandboxServiceStub(channel), ProcessServiceStub(channel)

        sandbox = sandboxes.Create(SandboxServiceCreateRequest(), timeout=60).sandbox
        print("created", sandbox.id, flush=True)
        try:
            script = "echo to stdout; echo to stderr >&2; exit 3"
            print("exit status", run(processes, sandbox.id, "sh", "-c", script))
            try:
                sandboxes.Get(SandboxServiceGetRequest(sandbox_id="no-such-box"), timeout=10)
            except grpc.RpcError as e:
                print(f"{e.code().name}: {e.details()}")
        finally:
            sandboxes.Delete(SandboxServiceDeleteRequest(sandbox_id=sandbox.id), timeout=60)
            print("deleted")


default = os.environ.get("SANDBOXD_SOCKET", "/run/sandboxd/sandboxd.sock")
main(sys.argv[1] if len(sys.argv) > 1 else default)
