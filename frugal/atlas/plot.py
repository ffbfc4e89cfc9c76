"""The learning curves of a result as points and ticks of an SVG, and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .results import Result
from .words import number

SIDE = 1000  # of the square in which curves are drawn; the page stretches it
Curve = Sequence[float | None]
Ticks = list[tuple[float, str]]  # percent of the axis, label


@dataclass(frozen=True)
class Line:
    """One arm: a polyline a seed, and one of the mean."""

    recipe: str
    seeds: list[str]
    mean: str


@dataclass(frozen=True)
class Plot:
    lines: list[Line]
    x: Ticks
    y: Ticks
    target: float | None  # percent from the top
    words: str


def plot(result: Result) -> Plot | None:
    """None where a result has no curves."""
    grid: list[float] = result.get("grid", [])
    arms = [(arm["recipe"], arm["curves"]) for arm in result.get("arms", []) if arm.get("curves")]
    values = [value for _, curves in arms for curve in curves for value in curve if _drawn(value)]
    if not values or len(grid) < 2:
        return None
    steps = ticks(min(values), max(values))
    low, high = steps[0], steps[-1]

    def across(x: float) -> float:
        return (x - grid[0]) / (grid[-1] - grid[0])

    def down(y: float) -> float:
        return (high - y) / (high - low)

    def polyline(curve: Curve) -> str:
        points = [(across(x), down(y)) for x, y in zip(grid, curve, strict=True) if y is not None and _drawn(y)]
        return " ".join(f"{SIDE * x:.0f},{SIDE * y:.0f}" for x, y in points)

    lines, said = [], []
    for recipe, curves in arms:
        mean = [_mean(points) for points in zip(*curves, strict=True)]
        lines.append(Line(recipe, [polyline(curve) for curve in curves], polyline(mean)))
        ends = [number(y) for y in (mean[0], mean[-1])]
        said.append(f"{recipe} goes from {ends[0]} to {ends[1]} (mean of {len(curves)} seeds)")
    target = (result.get("statistics") or {}).get("target")
    spent = f"{number(grid[-1])} {result.get('cost', 'samples')}"
    return Plot(
        lines,
        [(100 * across(x), number(x)) for x in ticks(grid[0], grid[-1]) if grid[0] <= x <= grid[-1]],
        [(100 * down(y), number(y)) for y in steps],
        100 * down(target) if isinstance(target, float) and low <= target <= high else None,
        f"Learning curves, {result.get('metric', 'score')} over {spent}: {'; '.join(said)}.",
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers at even steps, the first at most `low` and the last at least `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(m * power for m in (0.2, 0.5, 1, 2) if span <= 5.001 * m * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, max(last, first + 1) + 1)]


def _drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _mean(points: Curve) -> float | None:
    """None where a seed has no value: a mean of the others would flatter."""
    known = [y for y in points if y is not None]
    return math.fsum(known) / len(points) if len(known) == len(points) else None
