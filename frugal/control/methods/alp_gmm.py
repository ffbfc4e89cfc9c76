"""Tasks are drawn where returns change most, by a mixture of Gaussians over tasks and their learning progress.

Changes      start.reset: of an episode on task c with return R, progress is |R - R'|, R' the return on the nearest task
             before; every `every` episodes mixtures with 2 to 10 components are fitted to (c, progress) of the last
             `every`, the one of the least AIC is kept; an episode's task is drawn from component j with probability
             mean progress_j / sum of mean progress, or, with probability `random`, evenly
Source       Teacher algorithms for curriculum learning of Deep RL in continuously parameterized environments, Portelas
             et al. 2019, arXiv 1910.07224, algorithm 1 and section 4; github.com/flowersteam/teachDeepRL
Ours         tasks are scaled to [0, 1] before distances are taken, and progress by its largest before a fit, so that
             the units of neither matter; the mixture is fitted by our own expectation maximisation. As in that code,
             progress is 0 until more than five tasks are known, and without progress all components are equal
Leans on     an environment with a Box `task_space`
Experiment   experiments/control/alp_gmm.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.env import Ended

BASE = "control.ppo"
TASK = "frugal/CartPole-v0(length=(0.05, 5.0))"
NEUTRAL = {"random": 1.0}
VISIBLE = {"every": 4}
KNOWN = 5  # tasks, before there is progress
COMPONENTS = range(2, 11)


@dataclass(frozen=True)
class LearningProgress:
    """Draws tasks by their absolute learning progress."""

    every: int
    random: float

    def begin(self, run: Any) -> Any:
        if not run.spaces.task_low:
            raise BadTask("alp-gmm chooses tasks, and this environment takes none: it has no Box `task_space`")
        return LiveProgress(self, run)


class LiveProgress:
    def __init__(self, part: LearningProgress, run: Any):
        self.part, self.run = part, run
        self.low = torch.tensor(run.spaces.task_low, dtype=torch.float64)
        self.span = torch.tensor(run.spaces.task_high, dtype=torch.float64) - self.low
        self.seen = torch.zeros(0, len(self.low) + 2).double()  # [episodes, C + 2]: scaled task, return, progress
        self.mixture: tuple[Tensor, Tensor] | None = None  # mean [k,C+1], covariance [k,C+1,C+1]

    def __call__(self, over: Ended) -> dict[str, Any]:
        if over.ret is not None and over.task is not None:
            for task, ret in zip((over.task.double() - self.low) / self.span, over.ret, strict=True):
                self.note(task, float(ret))
        rng = self.run.rng("alp-gmm", self.run.ledger.samples)
        return {"task": [self.draw(rng) for _ in over.rows]}

    def note(self, task: Tensor, ret: float) -> None:
        """Remember an episode on a scaled task [C], and fit when it is time."""
        progress = 0.0
        if len(self.seen) > KNOWN:
            nearest = (self.seen[:, :-2] - task).square().sum(1).argmin()
            progress = abs(ret - float(self.seen[nearest, -2]))
        self.seen = torch.cat([self.seen, torch.cat([task, task.new_tensor([ret, progress])])[None]])
        if len(self.seen) % self.part.every == 0:
            self.fit()

    def fit(self) -> None:
        """The mixture of the least AIC on the last `every` tasks and their progress."""
        x = torch.cat([self.seen[-self.part.every :, :-2], self.seen[-self.part.every :, -1:]], 1)
        x[:, -1] /= x[:, -1].max().clamp(min=1e-12)
        rng = self.run.rng("alp-gmm", "fit", len(self.seen))
        best = float("inf")
        for k in COMPONENTS:
            if k > len(x):
                break
            _, mean, covariance, likelihood = maths.fit_mixture(x, k, rng)
            if (score := maths.akaike(likelihood, k, x.shape[1])) < best:
                best, self.mixture = score, (mean, covariance)

    def draw(self, rng: torch.Generator) -> list[float] | None:
        """A task, or None where the environment's own even draw will do."""
        if self.mixture is None or torch.rand((), generator=rng) < self.part.random:
            return None
        mean, covariance = self.mixture
        progress = mean[:, -1].clamp(min=0)
        j = int(torch.multinomial(progress if progress.sum() > 0 else torch.ones_like(progress), 1, generator=rng))
        noise = torch.randn(mean.shape[1], generator=rng, dtype=mean.dtype)
        drawn = (mean[j] + torch.linalg.cholesky(covariance[j]) @ noise)[:-1].clamp(0, 1)
        return (self.low + self.span * drawn).tolist()  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Tensor]:
        return {"seen": self.seen, **dict(zip(("mean", "covariance"), self.mixture or (), strict=False))}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.seen = state["seen"]
        self.mixture = (state["mean"], state["covariance"]) if "mean" in state else None


@patch
def alp_gmm(every: int = 250, random: float = 0.2) -> Patch:
    """A curriculum by absolute learning progress, fitted anew after `every` episodes."""
    if every < 2 or not 0 <= random <= 1:
        raise BadRecipe(f"alp-gmm(every={every}, random={random}): give every of at least 2, random in [0,1]")
    part = LearningProgress(every, random)
    return Patch(add={"start.reset": part}, claims=("task of an episode",), domain="control")
