"""Learning curves of a comparison: every seed thin, the mean bold."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import numpy as np


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write a PNG of the metric against what was spent."""
    _figure(summary).savefig(path, dpi=150)


def svg(summary: dict[str, Any], frontier: bool = False) -> str:
    """The same picture as SVG for a page, in the page's own text colour; or that of the reward against the KL."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "frugal"}):
        (_frontier if frontier else _figure)(summary).savefig(
            file, format="svg", transparent=True, metadata={"Date": None}
        )
    text = file.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor").replace("<svg ", '<svg role="img" ', 1)


def _figure(summary: dict[str, Any]) -> Any:
    figure, axes = _empty(summary)
    grid = np.array(summary["grid"])
    for i, arm in enumerate(summary["arms"]):
        for y in arm["curves"]:
            axes.plot(grid, y, color=f"C{i}", alpha=0.3, linewidth=0.9)
        axes.plot(grid, np.mean(arm["curves"], axis=0), color=f"C{i}", linewidth=2.4, label=_wrapped(arm["recipe"]))
    seeds = summary["seeds"]
    axes.set(
        xlabel=f"samples ({summary['unit']})" if summary["cost"] == "samples" else summary["cost"],
        ylabel=summary["metric"],
        xlim=(0, grid[-1]),
        title=textwrap.fill(f"{summary['task']}: mean and each of {seeds} seed{'s' if seeds > 1 else ''}", 64),
    )
    if summary["metric"].endswith("accuracy"):
        axes.set_ylim(0, 1.02)
    figure.legend(frameon=False, loc="outside lower left", fontsize="small")
    return figure


def _frontier(summary: dict[str, Any]) -> Any:
    """What reward each policy has reached at what distance from the start: every seed's way, its end marked."""
    figure, axes = _empty(summary)
    for i, arm in enumerate(summary["arms"]):
        for seed, way in enumerate(arm["frontier"]):
            kl, reward = np.array(way).reshape(-1, 2).T
            label = _wrapped(arm["recipe"]) if seed == 0 else None
            axes.plot(kl, reward, "-", color=f"C{i}", alpha=0.6, linewidth=1.2, label=label)
            axes.plot(kl[-1:], reward[-1:], "o", color=f"C{i}", markersize=5)
    axes.set(xlabel="KL to the start (nats a response)", ylabel="held-out true reward", title="reward against KL")
    figure.legend(frameon=False, loc="outside lower left", fontsize="small")
    return figure


def _empty(summary: dict[str, Any]) -> tuple[Any, Any]:
    """A figure and its axes, with room for the recipes below them: a tuned one is longer than the axes are wide."""
    from matplotlib.figure import Figure

    lines = sum(_wrapped(arm["recipe"]).count("\n") + 1 for arm in summary["arms"])
    figure = Figure(figsize=(7, 4.0 + 0.18 * lines), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _wrapped(recipe: str) -> str:
    return textwrap.fill(recipe, 92, subsequent_indent="    ")
