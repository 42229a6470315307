"""The page's server: on the loopback interface alone, and for GET and HEAD alone.

A page of another site cannot read it: the name in `Host` must be this machine's own, so that no name that was pointed
at it passes (DNS rebinding), and the headers forbid other sites to embed anything of it.
"""

from __future__ import annotations

import errno
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from segbench.errors import SegbenchError
from segbench.view.routes import Answer, Site, as_json

ADDRESS = "127.0.0.1"
PORT = 8720

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Headers of every answer."""


class Server(ThreadingHTTPServer):
    """A server of the page over some stores.

    Args:
        stores: their folders.
        port: where it listens; 0 for any that is free.

    Raises:
        SegbenchError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, stores: list[Path], port: int = PORT) -> None:
        self.site = Site(stores)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror or error})"
            raise SegbenchError(f"port {port} {reason}; name another one with --port, or 0 for any") from error
        own = self.server_address[1]
        self.hosts = {f"{name}:{own}" for name in (ADDRESS, "localhost")}
        if own == 80:
            self.hosts |= {ADDRESS, "localhost"}

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "segbench"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        if self.headers.get_all("Host") is None or len(self.headers.get_all("Host", [])) != 1:
            answer = as_json({"error": "a request names one host"}, 400)
        elif self.headers["Host"].lower() not in self.server.hosts:
            answer = as_json({"error": f"this page is at {self.server.url}"}, 421)
        elif self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and self.path != "/":
            answer = as_json({"error": "another site may not ask for this"}, 403)
        else:
            parts = urlsplit(self.path)
            answer = self.server.site.answer(parts.path, dict(parse_qsl(parts.query)))
        self._send(answer)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.close_connection = True  # a body may follow, which nobody reads
        self._send(as_json({"error": "this page can only be read"}, 405))

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST

    def _send(self, answer: Answer) -> None:
        known = answer.status == 200 and self.headers.get("If-None-Match") == f'"{answer.tag}"'
        self.send_response(304 if known else answer.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if answer.tag:
            self.send_header("ETag", f'"{answer.tag}"')
        if answer.status == 405:
            self.send_header("Allow", "GET, HEAD")
        if not known:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if not known and self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing: the page asks once a second."""
