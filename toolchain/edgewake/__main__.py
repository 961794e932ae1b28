"""`python -m edgewake` is the command `edgewake`."""

from __future__ import annotations

from edgewake.cli import main

if __name__ == "__main__":
    main(prog_name="edgewake")
