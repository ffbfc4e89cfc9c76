"""Few updates a sample while the critic is still losing or regaining active units, many once their share has settled.

Changes      update.ratio: `low` updates a sample, and `high` for good after the first check with
             |Phi_k - Phi_{k-1}| <= threshold. Phi is the share of the critic's rectified units that are above zero, its
             mean over the last of every `check` episodes; Phi_0 is that of the first batch
Source       Revisiting Plasticity in Visual Reinforcement Learning: Data, Modules and Training Stages, Ma et al. 2023,
             arXiv 2310.07418: Adaptive RR of its section 5; 0.5 and 2, 50 episodes and 0.001 of the released code
Ours         Phi is measured once in 100 samples, where the released code measures every batch; an episode that is too
             short for that is judged by the first measurement after it; nothing is checked at the first measurement
             of all. The paper's agent is DrQ-v2, which `td3(shift=4, n=3)` resembles; the rule asks nothing of the base
             but rectified units in its critic.
Leans on     nothing
Experiment   experiments/control/adaptive_rr.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal.control.parts import Ratio
from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from frugal.control.batch import Batch
    from frugal.control.env import Step

NEUTRAL = {"low": 1.0, "high": 1.0}


@dataclass(frozen=True)
class Adaptive:
    """One of two ratios, by whether the critic's active units have settled."""

    low: Ratio
    high: Ratio
    check: int
    threshold: float

    def begin(self, run: Any) -> Any:
        return LiveAdaptive(self, run)


class LiveAdaptive:
    def __init__(self, part: Adaptive, run: Any):
        self.part, self.run = part, run
        self.episodes = self.checks = 0
        self.settled = False
        self.reference: float | None = None  # Phi_{k-1}
        self.seen: list[float] = []  # of the last episode before a check
        self.phi: float | None = None  # of the last round

    def __call__(self, before: int, after: int) -> int:
        return (self.part.high if self.settled else self.part.low)(before, after)

    def observe(self, step: Step) -> None:
        self.episodes += int((step.ended & step.valid).sum())

    def learn(self, batch: Batch) -> None:
        """Measure, and check whether it is time."""
        self.phi = phi = active_share(self.run.net, batch)
        check = self.part.check
        if self.reference is None:
            self.reference, self.checks = phi, self.episodes // check
            return
        if self.episodes // check == self.checks:
            if (self.episodes + 1) % check == 0:
                self.seen.append(phi)
            return
        seen = self.seen or [phi]
        mean = sum(seen) / len(seen)
        self.settled |= abs(mean - self.reference) <= self.part.threshold
        self.checks, self.reference, self.seen = self.episodes // check, mean, []

    def report(self) -> dict[str, float]:
        return {} if self.phi is None else {"active": self.phi}

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("episodes", "checks", "settled", "reference", "seen", "phi")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


def active_share(net: Any, batch: Batch) -> float:
    """The share of the critic's rectified units that are above zero, over all of them and the rows of a batch."""
    from frugal.control.networks import Active

    with torch.no_grad():
        z = net.encode(batch.state)
        with Active() as count:
            net.q(z, batch.action)
    return count.above / count.units


@patch
def adaptive_rr(low: float = 0.5, high: float = 2.0, check: int = 50, threshold: float = 0.001) -> Patch:
    """Adaptive replay ratio: from `low` to `high` once the critic's active units change by less than `threshold`."""
    if low <= 0 or high <= 0 or check < 1:
        raise BadRecipe(
            f"adaptive-rr(low={low}, high={high}, check={check}): give ratios above 0 and check of 1 or more"
        )
    return Patch(fill={"update.ratio": Adaptive(Ratio(low), Ratio(high), check, threshold)}, domain="control")
