"""Brings documents from outside docs/ into the site, and makes every link within the repository one within the site."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "*/README.md", "models/*/README.md", "models/*/*.png")
LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the documents, under their paths in the repository."""
    for path in sorted(path for pattern in ELSEWHERE for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to documents of the repository lead to their pages; of other files of it, the text alone stays."""
    source = Path(page.file.abs_src_path)

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = Path(os.path.normpath(source.parent / target))
        if not path.is_relative_to(ROOT) or not path.exists():
            return match[0]  # a strict build names it
        name = path.relative_to(ROOT).as_posix().removeprefix("docs/")
        if files.get_file_from_path(name) is None:
            return text
        return f"[{text}]({posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return LINK.sub(link, markdown)
