"""Environments of our own, for methods whose property no environment of Gymnasium has. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

BUILT_IN: Mapping[str, str] = {
    "frugal/Coverage-v0": "frugal.control.tasks.coverage:Coverage",
    "frugal/LotSizing-v0": "frugal.control.tasks.lot_sizing:LotSizing",
}
