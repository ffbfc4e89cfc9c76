"""The documentation of a checkout, made by Sphinx."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from frugal.catalogue.index import PACKAGE
from frugal.core.errors import MissingExtra, RunFailed

SOURCE = PACKAGE.with_name("docs")
NEEDS = ("sphinx", "furo", "myst_parser")


def missing() -> str | None:
    """Why the documentation cannot be built here and what to do, None if it can."""
    if not (SOURCE / "conf.py").is_file():
        return "the documentation is built from a checkout: git clone the repository and install it with pip -e"
    if not all(importlib.util.find_spec(name) for name in NEEDS):
        return str(MissingExtra("docs", "the documentation"))
    return None


def build(out: Path) -> None:
    """Write the pages below `out`. Raises `RunFailed` with what Sphinx found wrong."""
    # A process of its own: Sphinx imports all that it documents, with stand-ins for packages that must not stay behind.
    with tempfile.TemporaryDirectory() as doctrees:
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", doctrees, str(SOURCE), str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"the documentation cannot be built:\n{done.stderr.strip()}")
