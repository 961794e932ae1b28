"""What the panels share: expected failures become a message of one line on the page."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from edgewake.errors import EdgewakeError

# Names the folder that Gradio keeps uploads in, each in a folder named by its hash.
UPLOADS = "GRADIO_TEMP_DIR"


def told(action: Callable[..., Any]) -> Callable[..., Any]:
    """The action of a button, whose expected failures the page shows as the command line would."""

    @wraps(action)
    def call(*values: Any) -> Any:
        try:
            return action(*values)
        except EdgewakeError as error:
            # A person knows an upload by its name.
            folder = re.escape(os.environ.get(UPLOADS, ""))
            text = re.sub(rf"{folder}/[0-9a-f]{{64}}/", "", " ".join(str(error).split()))
            raise gr.Error(text, print_exception=False) from None

    return call


def choices(found: Sequence[str], chosen: str | None = None) -> dict[str, Any]:
    """An update of a dropdown: its choices, with what was chosen where that is still among them, or else the first."""
    # Where it stays it is not sent, since another may be chosen meanwhile.
    value = {} if chosen in found else {"value": next(iter(found), None)}
    update: dict[str, Any] = gr.update(choices=list(found), **value)
    return update
