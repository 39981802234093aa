"""Stand-ins of the network: a server that serves files and misbehaves as told, and the hub that open_clip downloads from."""

import hashlib
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 40


@dataclass
class Fault:
    """What the server does wrong with a file, once."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None  # bytes, then the connection is dropped
    drip: float = 0.0  # seconds between single bytes
    resumes: bool = True


@dataclass
class Server:
    """Files by path, faults by path in the order in which they happen, and what was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))  # more of them, by path
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, range

    def asked(self, path: str) -> list[str | None]:
        """Ranges asked for with GET."""
        return [span for method, asked, span in self.requests if (method, asked) == ("GET", path)]


@contextmanager
def serving() -> Iterator[Server]:
    """A server on the loopback interface."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            span = self.headers.get("Range")
            server.requests.append((self.command, self.path, span))
            faults = server.faults.get(self.path) if with_body else None
            fault = faults.pop(0) if faults else Fault()
            if self.path not in server.files or fault.status != 200:
                return self._head(404 if self.path not in server.files else fault.status, 0, fault.headers)
            content = server.files[self.path]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = 0
            if span and self.headers.get("If-Range", etag) == etag and fault.resumes:
                start = int(re.match(r"bytes=(\d+)-", span)[1])
            headers = {"ETag": etag, "Content-Type": server.types.get(self.path, "application/octet-stream")}
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
            headers |= server.headers[self.path] | fault.headers
            self._head(206 if start else 200, len(content) - start, headers)
            if with_body:
                self._send(content[start:], fault)

        def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(length), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()

        def _send(self, content: bytes, fault: Fault) -> None:
            try:
                for n in range(len(content)) if fault.drip else ():
                    self.wfile.write(content[n : n + 1])
                    self.wfile.flush()
                    time.sleep(fault.drip)
                if not fault.drip:
                    self.wfile.write(content[: fault.stop_after])
            except OSError:
                pass  # the other side has gone

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


def publish(server: Server, repository: str, name: str, content: bytes) -> str:
    """Put a file of a repository on a stand-in of the hub; its path there."""
    path = f"/{repository}/resolve/main/{name}"
    server.files["/"] = b"the hub"
    server.files[path] = content
    server.headers[path]["X-Repo-Commit"] = COMMIT
    return path
