"""`edgewake ui`, also as `python -m edgewake.ui.app`: the page, for this machine alone without a password."""

from __future__ import annotations

import os
import re
import runpy
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware

from edgewake.errors import EdgewakeError
from edgewake.ui import building, phrase, settings, training, trying
from edgewake.ui.common import UPLOADS
from edgewake.ui.project import STATE, Project

USER, PASSWORD = "edgewake", "EDGEWAKE_UI_PASSWORD"
LARGEST_UPLOAD = "64mb"
SHORTEST_PASSWORD = 8
# Each takes almost 1 MB; of more visits the one that was idle for longest has to load the page again.
SESSIONS = 100
# The browser itself refuses whatever is not of this page.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; worker-src 'self' blob: data:; "
    "connect-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'"
)
# Gradio's template names its own site and pictures for search engines.
_CARDS = re.compile(rb'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>')
CSS = """
footer { display: none !important }
.settings > .form, .settings { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)) }
.settings > .form { grid-column: 1 / -1; background: var(--block-background-fill) }
#log textarea { font-family: ui-monospace, monospace; font-size: 12px }
"""
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def make_page(project: Project) -> gr.Blocks:
    """All panels for a project."""
    with gr.Blocks(analytics_enabled=False, title="edgewake", delete_cache=(3600, 86400)) as page:
        gr.Markdown(f"# edgewake\n{project.folder}")
        with gr.Tabs():
            with gr.Tab("1. Phrase"):
                phrase.panel(project, page)
            with gr.Tab("2. Configuration"):
                fields = settings.panel(project, page)
            with gr.Tab("3. Training"):
                training.panel(project, page, fields)
            with gr.Tab("4. Try"):
                trying.panel(project, page)
            with gr.Tab("5. Build and flash"):
                building.panel(project, page)
    page.state_session_capacity = SESSIONS
    return page


class OfThisPageAlone:
    """Adds to every answer the policy that nothing is loaded from elsewhere, and drops the template's links."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """An ASGI application."""
        html = False

        async def guarded(message: Message) -> None:
            nonlocal html
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
                html = any(name.lower() == b"content-type" and b"text/html" in value for name, value in headers)
                message["headers"] = [
                    *(headers if html else message["headers"]),
                    (b"content-security-policy", POLICY.encode()),
                ]
            elif message["type"] == "http.response.body" and html:
                message["body"] = _CARDS.sub(b"", message.get("body", b""))
            await send(message)

        if scope["type"] == "http":
            # A page that is packed cannot be read here.
            scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
            await self._app(scope, receive, guarded)
        else:
            await self._app(scope, receive, send)


def make_server(folder: Path, host: str, port: int, password: str | None) -> tuple[uvicorn.Server, socket.socket, str]:
    """The server of a project's page, the socket that it will listen on, and the page's address.

    Raises:
        EdgewakeError: no such folder, no password where others reach the address, or a port that is not free.
    """
    project = Project(folder)
    if not _is_local(host) and len(password or "") < SHORTEST_PASSWORD:
        raise EdgewakeError(
            f"--host {host}: others can reach it; set {PASSWORD} to {SHORTEST_PASSWORD} characters or more, "
            "or leave --host away"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise EdgewakeError(f"{host}:{port}: {error.strerror}; choose another --port or --host") from error
    os.environ[UPLOADS] = str(project.folder / STATE / "files")
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if _is_local(host):
        # A site elsewhere whose name is made to mean this machine is refused.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host])
    app.add_middleware(OfThisPageAlone)
    gr.mount_gradio_app(
        app,
        make_page(project).queue(default_concurrency_limit=4),
        "/",
        server_name=host,
        footer_links=[],
        auth=(USER, password) if password else None,
        allowed_paths=[str(project.samples), str(project.downloads)],
        max_file_size=LARGEST_UPLOAD,
        show_error=False,
        ssr_mode=False,
        theme=gr.themes.Base(**FONTS),
        css=CSS,
    )
    shown = f"[{host}]" if ":" in host else host
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    return server, listening, f"http://{shown}:{listening.getsockname()[1]}"


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    # The guide's name of `edgewake ui`.
    sys.argv.insert(1, "ui")
    runpy.run_module("edgewake", run_name="__main__")
