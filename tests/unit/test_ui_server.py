"""The page's server: who can reach it, what it gives away, and that it names no other host."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewake.errors import EdgewakeError

pytest.importorskip("gradio", reason="needs the extra ui")
from starlette.testclient import TestClient

from edgewake.ui.app import make_server

# Names of XML, which nobody fetches.
_NAMESPACES = ("http://www.w3.org/",)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "secret.yaml").write_text("a: 1\n")
    return root


@pytest.fixture(scope="module")
def client(project: Path) -> Iterator[Any]:
    server, listening, _ = make_server(project, "127.0.0.1", 0, None)
    with listening, TestClient(server.config.app, base_url="http://127.0.0.1") as found:
        yield found


def test_the_page_references_no_other_host(client: Any) -> None:
    answer = client.get("/", headers={"accept-encoding": "br, gzip"})
    assert answer.status_code == 200
    # Texts in the page's data are escaped; what a browser would load stands in attributes.
    found = re.findall(r"""(?:src|href|content)=["']?(https?:)?//[^"'> ]+""", answer.text)
    assert not found
    assert "fonts.googleapis" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_styles_load_nothing_from_elsewhere(client: Any) -> None:
    style = client.get("/theme.css").text
    assert style
    assert not re.findall(r"url\(['\"]?https?://", style)


def test_another_host_name_is_refused(client: Any) -> None:
    assert client.get("/", headers={"host": "attacker.example"}).status_code == 400


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{project}/secret.yaml", "{project}/../x", "{project}/.ui/config.yaml"]
)
def test_no_file_is_given_away(client: Any, project: Path, path: str) -> None:
    answer = client.get("/gradio_api/file=" + path.format(project=project))
    assert answer.status_code in (403, 404)


def test_an_upload_that_is_too_large_is_refused(client: Any) -> None:
    answer = client.post("/gradio_api/upload", files={"files": ("a.wav", b"\0" * (65 * 2**20))})
    assert answer.status_code == 413


def test_a_password_is_asked_for(project: Path) -> None:
    server, listening, _ = make_server(project, "127.0.0.1", 0, "a long password")
    with listening, TestClient(server.config.app, base_url="http://127.0.0.1") as client:
        assert client.get("/config").status_code == 401
        assert client.post("/login", data={"username": "edgewake", "password": "wrong"}).status_code == 400
        right = {"username": "edgewake", "password": "a long password"}
        assert client.post("/login", data=right).status_code == 200
        assert client.get("/config").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::", "example.org"])
@pytest.mark.parametrize("password", [None, "", "short"])
def test_others_need_a_password(project: Path, host: str, password: str | None) -> None:
    with pytest.raises(EdgewakeError, match=f"--host {host}: others can reach it; set EDGEWAKE_UI_PASSWORD"):
        make_server(project, host, 0, password)


def test_a_port_in_use_is_named(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EdgewakeError, match="choose another --port"):
            make_server(project, "127.0.0.1", taken.getsockname()[1], None)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EdgewakeError, match="is no folder"):
        make_server(tmp_path / "nowhere", "127.0.0.1", 0, None)
