"""Where Frugal keeps what it fetched or made once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder: FRUGAL_CACHE where it is set, else ~/.cache/frugal; it need not exist yet."""
    return Path(os.environ.get("FRUGAL_CACHE") or "~/.cache/frugal").expanduser()
