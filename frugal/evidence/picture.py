"""Learning curves of a comparison: every seed thin, the mean bold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def draw(summary: dict[str, Any], path: Path) -> None:
    """Write a PNG of held-out accuracy against samples spent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    grid = np.linspace(0, max(x for arm in summary["arms"] for points in arm["curves"] for x, _ in points), 100)
    for i, arm in enumerate(summary["arms"]):
        curves = [np.interp(grid, *np.array(points).T) for points in arm["curves"]]
        for y in curves:
            axes.plot(grid, y, color=f"C{i}", alpha=0.3, linewidth=0.9)
        axes.plot(grid, np.mean(curves, axis=0), color=f"C{i}", linewidth=2.4, label=arm["arm"])
    seeds = summary["seeds"]
    axes.set(
        xlabel="samples (completions)",
        ylabel=summary["metric"],
        ylim=(0, 1.02),
        xlim=(0, grid[-1]),
        title=f"{summary['task']}: mean and each of {seeds} seed{'s' if seeds > 1 else ''}",
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
