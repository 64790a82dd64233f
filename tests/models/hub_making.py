"""A server on this machine that behaves, and misbehaves, as a host of models does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Host:
    """Files by path, and how often a connection is cut.

    Attributes
    ----------
    files : dict of str to bytes
        What is served.
    cuts : list of int
        The next answers end after so many bytes of their body, one each.
    ranges : list of str or None
        The Range header of each request.
    resumable : bool
        Whether ranges are honoured.
    codes : list of int
        The next answers are these codes, one each.
    linked : bool
        Whether a file's SHA-256 is told by a redirect, as the hub does for large files.
    lie : str or None
        What is told instead.
    url : str
        Where it is reached.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.codes: list[int] = []
        self.resumable = True
        self.linked = False
        self.lie: str | None = None
        self.url = ""


@contextmanager
def hosting() -> Iterator[Host]:
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            cdn = path.startswith("/cdn/")
            content = host.files.get(path.removeprefix("/cdn"))
            code = host.codes.pop(0) if host.codes else 200
            if content is None or code != 200:
                self._answer(404 if content is None else code, {})
                return
            digest = hashlib.sha256(content).hexdigest()
            if host.linked and not cdn:
                headers = {"Location": f"/cdn{path}", "X-Linked-ETag": f'"{host.lie or digest}"'}
                self._answer(302, headers)
                return
            wanted = self.headers.get("Range")
            host.ranges.append(wanted)
            tag = f'"{digest[:16]}"'
            headers = {"ETag": tag}
            start = 0
            if wanted and host.resumable and self.headers.get("If-Range") == tag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self._answer(416, {})
                    return
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            cut = host.cuts.pop(0) if host.cuts else None
            self._answer(206 if start else 200, headers, body, cut)

        def _answer(
            self, code: int, headers: dict[str, str], body: bytes = b"", cut: int | None = None
        ) -> None:
            self.send_response(code)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            # A client that was cancelled is gone.
            with suppress(ConnectionError):
                self.wfile.write(body if cut is None else body[:cut])
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
