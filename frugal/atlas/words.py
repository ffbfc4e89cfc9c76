"""Filters of the templates: figures, intervals and the prose of method heads."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape


def number(value: Any) -> str:
    """Three digits, thousands apart: 0.713, 61.2, 12,800. What is no number comes out as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    if not math.isfinite(value) or (isinstance(value, float) and abs(value) < 1000):
        return f"{value:.3g}"
    return f"{value:,.0f}"


def interval(value: Any) -> str:
    """``[0.61, 0.74]``; nothing where there is none, as with one seed."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or None in value:
        return ""
    return f"[{number(value[0])}, {number(value[1])}]"


def prose(text: str) -> Markup:
    """One paragraph of a head: names in backticks become code, arXiv numbers links."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(" ".join(text.split()))))
    return Markup(re.sub(r"arXiv[ :](\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv&nbsp;\1</a>', html))


def tint(ratio: float) -> int:
    """How strongly a cell is coloured, in percent: nothing at a ratio of 1, most from 4.5 and its inverse on."""
    return round(min(60.0, 40 * abs(math.log(ratio))))


def slug(text: str) -> str:
    """``not shown`` as ``not-shown``: one word for an attribute."""
    return re.sub(r"\W+", "-", text.lower())
