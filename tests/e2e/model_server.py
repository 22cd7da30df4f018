"""A stand-in for a model: it speaks the APIs that agents use, and has one thing to say. First it
calls the tool that writes a file, then it says that it is done.

usage: model_server.py PORT PATH"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATH = sys.argv[2]
TEXT = "made by a stand-in\n"


def has_result(request):
    """A tool has answered already."""
    return any(m.get("role") == "tool" or (isinstance(m.get("content"), list) and any(
        part.get("type") == "tool_result" for part in m["content"])) for m in request["messages"])


def writer(request):
    """The name of its tool that writes files, and the arguments for it; None: it has none."""
    names = [t.get("name") or t["function"]["name"] for t in request.get("tools") or []]
    for name, path, content in (("Write", "file_path", "content"), ("write", "filePath", "content")):
        if name in names:
            return name, {path: PATH, content: TEXT}
    return None


def anthropic(request):
    """Of /v1/messages: the events of a stream."""
    tool = None if has_result(request) else writer(request)
    yield "message_start", {"message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"],
        "content": [], "stop_reason": None, "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 1}}}
    if tool:
        yield "content_block_start", {"index": 0, "content_block": {
            "type": "tool_use", "id": "toolu_1", "name": tool[0], "input": {}}}
        yield "content_block_delta", {"index": 0, "delta": {
            "type": "input_json_delta", "partial_json": json.dumps(tool[1])}}
    else:
        yield "content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}
        yield "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "All done."}}
    yield "content_block_stop", {"index": 0}
    yield "message_delta", {"delta": {"stop_reason": "tool_use" if tool else "end_turn",
                                      "stop_sequence": None}, "usage": {"output_tokens": 20}}
    yield "message_stop", {}


def openai(request):
    """Of /v1/chat/completions: the chunks of a stream."""
    tool = None if has_result(request) else writer(request)
    delta = {"role": "assistant", "content": None if tool else "All done."}
    if tool:
        delta["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": {
            "name": tool[0], "arguments": json.dumps(tool[1])}}]
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": request["model"]}
    yield base | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield base | {"choices": [{"index": 0, "delta": {},
                               "finish_reason": "tool_calls" if tool else "stop"}]}
    yield base | {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20,
                                           "total_tokens": 120}}


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    do_GET = do_HEAD

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "messages" not in request or "count_tokens" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if "chat/completions" in self.path:
            lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in openai(request)]
            lines.append("data: [DONE]\n\n")
        else:
            lines = [f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n"
                     for kind, data in anthropic(request)]
        self.wfile.write("".join(lines).encode())

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
