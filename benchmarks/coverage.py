"""How often the interval of the samples-to-target ratio holds the truth, and how often equal arms are told apart.

    python benchmarks/coverage.py            # a table, some minutes

Curves plateau, seeds differ in height and speed, evaluations are noisy (64 problems), and one seed in ten never learns.
The truth is the same ratio over 20,000 seeds an arm.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from frugal.evidence.statistics import Array, Race, race

GRID = np.linspace(0, 10_000, 41)
TRUTH_SEEDS = 20_000


def curves(rng: np.random.Generator, n: int, speed: float = 1.0, failing: float = 0.1) -> Array:
    """n seeds that rise from 0.2 towards about 0.8 with a time constant of 1800 samples over `speed`. [n,K]"""
    height = rng.normal(0.6, 0.06, n) * (rng.random(n) >= failing)
    time = 1800 / speed * np.exp(rng.normal(0, 0.25, n))
    truth = 0.2 + height[:, None] * (1 - np.exp(-GRID / time[:, None]))
    return truth + rng.normal(0, 1, truth.shape) * np.sqrt(truth.clip(0.01, 0.99) * (1 - truth.clip(0.01, 0.99)) / 64)


def truth(speed: float, fraction: float, failing: float) -> float:
    """The ratio that endless seeds would give."""
    from frugal.evidence import statistics

    rng = np.random.default_rng(1)
    base, method = curves(rng, TRUTH_SEEDS, 1.0, failing), curves(rng, TRUTH_SEEDS, speed, failing)
    start = base[:, 0].mean()
    target = np.array([start + fraction * (statistics.final(base).mean() - start)])
    return float(statistics._times(GRID, base)(target).mean() / statistics._times(GRID, method)(target).mean())


def races(n: int, speed: float, fraction: float | None, failing: float, repeats: int, seed: int = 0) -> list[Race]:
    """Comparisons of two arms with n seeds each, the second one `speed` times as fast."""
    rng = np.random.default_rng(seed)
    pairs = ((curves(rng, n, 1.0, failing), curves(rng, n, speed, failing)) for _ in range(repeats))
    return [race(GRID, base, method, fraction) for base, method in pairs]


def covered(found: list[Race], true: float) -> float:
    """Share of the intervals that hold the truth."""
    return float(np.mean([r.low <= true <= r.high for r in found]))


if __name__ == "__main__":
    rows = [(n, f, speed) for n in (5, 8, 10) for f in (0.0, 0.1) for speed in (1.0, 1.5, 2.0)]
    print("seeds  failing  true ratio  coverage  median width  better  worse")
    for n, failing, speed in tqdm(rows):
        true, found = truth(speed, 0.75, failing), races(n, speed, 0.75, failing, 500)
        width = np.median([r.high / r.low for r in found])
        words = [np.mean([r.word == w for r in found]) for w in ("better", "worse")]
        tqdm.write(
            f"{n:5} {failing:8.0%} {true:11.2f} {covered(found, true):9.1%} {width:13.2f}"
            f" {words[0]:7.1%} {words[1]:6.1%}"
        )
