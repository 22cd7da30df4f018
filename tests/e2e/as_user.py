"""Calls as another user of the host: a process that becomes it, then connects.

usage: as_user.py UID GID[,GID...] SOCKET

Each line of input is a JSON object: method ("sandboxd.v1.SandboxService/Get"), and maybe fields (of
the request), metadata, seconds. Each is answered by a line: code, details, and of a success the
responses, as JSON; of a stream what comes within `seconds`.
"""

import json
import os
import sys

import grpc
from google.protobuf import descriptor_pb2, json_format, message_factory, symbol_database
from sandboxd.v1 import app_pb2, task_pb2, host_pb2, image_pb2, process_pb2, sandbox_pb2

SERVICES = {f"{file.package}.{service.name}": service
            for file in (f.DESCRIPTOR for f in (app_pb2, task_pb2, host_pb2, image_pb2, process_pb2,
                                                 sandbox_pb2))
            for service in file.services_by_name.values()}
# Before protobuf 4.22 it was the other.
message_class = (getattr(message_factory, "GetMessageClass", None)
                 or symbol_database.Default().GetPrototype)
RAW = {  # services whose stubs Debian does not ship: (client streams, server streams, a request)
    "grpc.health.v1.Health/Check": (False, False, b""),
    "grpc.health.v1.Health/List": (False, False, b""),
    "grpc.health.v1.Health/Watch": (False, True, b""),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": (True, True, b"\x3a\x00"),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (True, True, b"\x3a\x00"),
}


def kind(name):
    """(client streams, server streams, type of the request, of the response), both None for raw."""
    if name in RAW:
        return *RAW[name][:2], None, None
    service, method = name.split("/")
    found = SERVICES[service].methods_by_name[method]
    proto = descriptor_pb2.MethodDescriptorProto()
    found.CopyToProto(proto)
    return (proto.client_streaming, proto.server_streaming,
            message_class(found.input_type), message_class(found.output_type))


def call(channel, method, fields=None, metadata=(), seconds=10):
    client_streams, server_streams, request_type, response_type = kind(method)
    request = (json_format.ParseDict(fields or {}, request_type()).SerializeToString()
               if request_type else RAW[method][2])
    many = {False: "unary", True: "stream"}
    stub = getattr(channel, f"{many[client_streams]}_{many[server_streams]}")(f"/{method}")
    metadata = [tuple(pair) for pair in metadata]
    responses = []
    try:
        answer = stub(iter([request]) if client_streams else request, timeout=seconds,
                      metadata=metadata)
        for response in answer if server_streams else [answer]:
            responses.append(json_format.MessageToDict(response_type.FromString(response))
                             if response_type else response.hex())
    except grpc.RpcError as e:
        if not (e.code() == grpc.StatusCode.DEADLINE_EXCEEDED and server_streams and responses):
            return {"code": e.code().name, "details": e.details(), "responses": responses}
    return {"code": "OK", "details": "", "responses": responses}


def main():
    uid, gids, path = int(sys.argv[1]), [int(gid) for gid in sys.argv[2].split(",")], sys.argv[3]
    os.setgroups(gids[1:])
    os.setgid(gids[0])
    os.setuid(uid)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        for line in sys.stdin:
            print(json.dumps(call(channel, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
