"""A web server on this machine that can misbehave."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What the server sends, and what it was asked.

    Args:
        url: Address of the file.
        content: The file.
        faults: What to do wrong, one per request, in order; then nothing: ``truncate`` (half of what is due),
            ``stall`` (half, then silence), ``corrupt`` (first byte changed), ``ignore_range`` (always the whole file),
            ``no_length``, ``hang_up`` (close without an answer), ``redirect``, or a status such as ``404``.
        requests: The ``Range`` header of each request, or None.
        release: Set when the test ends, so that stalled answers end too.
    """

    url: str
    content: bytes = bytes(range(256)) * 40
    faults: list[str] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Run a server; it stops on leaving."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            _answer(self, server)

        def log_message(self, *arguments: object) -> None:
            """Keep standard error clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        server = Server(f"http://127.0.0.1:{listener.server_port}/file.pth")
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            listener.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    server.requests.append(handler.headers.get("Range"))
    fault = server.faults.pop(0) if server.faults else ""
    if fault == "hang_up":
        handler.close_connection = True
    elif fault == "redirect":
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()
    elif fault.isdigit():
        handler.send_error(int(fault))
    else:
        _send_file(handler, server, fault)


def _send_file(handler: BaseHTTPRequestHandler, server: Server, fault: str) -> None:
    asked = None if fault == "ignore_range" else handler.headers.get("Range")
    start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
    if asked and start >= len(server.content):
        handler.send_error(416)
        return
    body = server.content[start:]
    handler.send_response(206 if asked else 200)
    if fault != "no_length":
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if fault == "corrupt":
        body = bytes([body[0] ^ 1]) + body[1:]
    handler.wfile.write(body[: len(body) // 2] if fault in ("truncate", "stall") else body)
    if fault == "stall":
        handler.wfile.flush()
        server.release.wait(30)
