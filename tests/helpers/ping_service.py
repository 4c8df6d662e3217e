"""A service that is pinged, on the loopback interface."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Service(HTTPServer):
    """Notes each request (method, path, body, user agent), and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str, str, str]] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}/abc"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    def __enter__(self) -> Service:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def pings(self) -> list[tuple[str, str]]:
        """Path and body of each request."""
        return [(path, body) for _, path, body, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        agent = self.headers["User-Agent"]
        self.server.requests.append((self.command, self.path, body, agent))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"OK")

    do_GET = do_POST = _answer

    def log_message(self, format: str, *arguments: Any) -> None:
        pass
