"""Runs in a sandbox: as much of an npm registry as `npm install` asks for.

usage: registry.py PORT TARBALL...

Each is what `npm pack` made. GET /NAME is the package's document, GET /NAME/-/FILE the tarball:
https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md"""

import base64
import hashlib
import json
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = int(sys.argv[1])
answers = {}
for path in map(Path, sys.argv[2:]):
    with tarfile.open(path) as tar:
        package = json.load(tar.extractfile("package/package.json"))
    name, version, data = package["name"], package["version"], path.read_bytes()
    package["dist"] = {
        "tarball": f"http://127.0.0.1:{PORT}/{name}/-/{path.name}",
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()}
    document = {"name": name, "dist-tags": {"latest": version}, "versions": {version: package}}
    answers[f"/{name}"] = "application/json", json.dumps(document).encode()
    answers[f"/{name}/-/{path.name}"] = "application/octet-stream", data


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, data = answers.get(self.path, (None, b"{}"))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        print(self.requestline, flush=True)


ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
