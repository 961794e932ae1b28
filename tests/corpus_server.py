"""A server of this machine that gives files by name, wholly or from a byte on; it can be slow, or break off."""

from __future__ import annotations

import http.server
import time


class Server:
    """Gives `files` by name; `ranges` are the Range headers it got; after `cut` bytes it closes the connection once.

    With `pause_s` it waits that long before each 16 KiB.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cut, self.resumes, self.pause_s = 0, True, 0.0
        state = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content, asked = state.files.get(self.path[1:]), self.headers.get("Range")
                state.ranges.append(asked)
                if content is None:
                    self.send_error(404)
                    return
                first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.resumes else 0
                if first >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                body, cut, state.cut = content[first:], state.cut, 0
                body = body[:cut] if cut else body
                for start in range(0, len(body), 1 << 14):
                    time.sleep(state.pause_s)
                    try:
                        self.wfile.write(body[start : start + (1 << 14)])
                    except OSError:  # whoever asked is gone
                        return

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"
