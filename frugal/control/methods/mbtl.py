"""Few tasks are trained on, chosen one by one by how far their policies should carry; the nearest good policy acts.

Changes      start.reset: the budget goes to `sources` tasks in equal parts, first to the middle one; x after k of them
             is argmax of mean over x' of max(mu(x) + sigma(x) / (k + 1) - slope |x - x'| - V(x'), 0), with
             V(x') = max over k of J_k - slope |x_k - x'|, and mu, sigma of a Gaussian process through (x_k, J_k)
             update.step: after each source everything begins from the first weights again
             act.deploy: on task x' acts the policy of argmax over k of J_k - slope |x_k - x'|
Source       Model-Based Transfer Learning for Contextual Reinforcement Learning, Cho et al. 2024, arXiv 2408.04498,
             algorithm 1; slope 0.5 over the range, noise 0.1 and 1 / (k + 1) as in github.com/jhoon-cho/MBTL
Ours         V is foreseen by the model instead of tried out on every task, which would have to be paid in samples. J is
             the mean return of a source's last ten training episodes, scaled by the worst episode and the best source
             so far, where the paper knows the bounds. |x - x'| is summed over dimensions scaled to [0, 1]; candidates
             are 128 Sobol points; the kernel's scale and length are the likeliest of a grid. A policy is shown the task
             that it was trained on, and the one in training is among those that act
Leans on     an environment with a Box `task_space` that tells the task, scaled to [0, 1], at the end of observations
Experiment   experiments/control/mbtl.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from frugal import maths
from frugal.core.errors import BadRecipe, BadTask
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.control.batch import Batch, Rows
    from frugal.control.env import Step
    from frugal.control.net import Net

BASE = "control.ppo"
TASK = "frugal/CartPole-v0(length=(0.05, 5.0))"
CANDIDATES = 128
EPISODES = 10  # whose mean return is the performance of a source
NOISE = 0.1  # of performances
SCALES = tuple(10.0**i for i in range(-3, 4))  # of the kernel: the bounds of the released code
LENGTHS = tuple(10.0 ** (-i / 2) for i in range(9))  # of equally likely ones the longest is taken


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|x - x'| of tasks a [n,C] and b [m,C] -> [n,m]"""
    return torch.cdist(a, b, p=1.0)


def acquisition(x: Tensor, J: Tensor, at: Tensor, slope: float) -> Tensor:
    """What training on each of the tasks at [m,C] would add to the mean performance on them, [m].

    x [k,C] tasks that were trained on, J [k] performances there.
    """
    scale, length = max(product(SCALES, LENGTHS), key=lambda pair: maths.gp_evidence(x, J, pair[0], pair[1], NOISE))
    mu, sigma = maths.gp_posterior(x, J, at, scale, length, NOISE)
    reached = (J[:, None] - slope * distance(x, at)).amax(0).clamp(min=0)  # [m]
    hoped = (mu + sigma / (len(x) + 1))[:, None] - slope * distance(at, at)  # [m,m]
    return (hoped - reached).clamp(min=0).mean(1)


@dataclass(frozen=True)
class Portfolio:
    """The policies of all sources, each acting where it is foreseen to be best."""

    slope: float

    def begin(self, run: Any) -> Any:
        if not run.spaces.task_low:
            raise BadTask("mbtl chooses tasks, and this environment takes none: it has no Box `task_space`")
        return LivePortfolio(self, run)


class LivePortfolio:
    def __init__(self, part: Portfolio, run: Any):
        self.part, self.run, self.C = part, run, len(run.spaces.task_low)
        self.x = torch.full((1, self.C), 0.5)  # [k + 1, C] tasks of the sources, the present one last
        self.J = torch.zeros(0)  # [k] returns of those that are done
        self.weights = torch.zeros(0, len(run.net.all.vector))  # [k,P]
        self.recent: list[float] = []  # returns of the present source's last episodes
        self.worst: float | None = None  # return of an episode

    def observe(self, step: Step) -> None:
        told = step.obs[:, -self.C :]
        if not torch.allclose(told, self.x[-1].expand_as(told), atol=1e-5):
            raise BadTask("mbtl reads the task, scaled to [0, 1], at the end of observations, and there it is not")
        for ret in step.ret[step.ended & step.valid].tolist():
            self.recent = [*self.recent, ret][-EPISODES:]
            self.worst = ret if self.worst is None else min(ret, self.worst)

    def __call__(self, net: Net, obs: Tensor) -> Tensor:
        J = torch.cat([self.J, torch.tensor([sum(self.recent) / len(self.recent)])]) if self.recent else self.J
        x = self.x[: max(len(J), 1)]  # without an episode of its own the present source acts only if it is the first
        J = J if len(J) else torch.zeros(1)
        best = (J[:, None] - self.slope(J) * distance(x, obs[:, -self.C :])).argmax(0)  # [N]
        a = torch.empty(len(obs), net.spaces.actions)
        for k in best.unique().tolist():
            rows = best == k
            seen = torch.cat([obs[rows, : -self.C], x[k].expand(int(rows.sum()), -1)], 1)
            weights = net.all.views(self.weights[k]) if k < len(self.weights) else net.weights
            a[rows] = net.law(seen, weights=weights).mode
        return a

    def slope(self, J: Tensor) -> float:
        """What is lost over the whole range of a task, in units of return."""
        return self.part.slope * self.span(J)

    def span(self, J: Tensor) -> float:
        """From the worst episode to the best source."""
        return max(float(J.max()) - (self.worst or 0.0), 1e-6)

    def close(self) -> None:
        """Keep the present policy, and choose what to train on next."""
        ret = sum(self.recent) / len(self.recent) if self.recent else float(self.run.env.ret.mean())
        self.worst = ret if self.worst is None else min(ret, self.worst)
        self.J = torch.cat([self.J, torch.tensor([ret])])
        self.weights = torch.cat([self.weights, self.run.net.all.vector[None].clone()])
        at = torch.quasirandom.SobolEngine(self.C).draw(CANDIDATES + 1)[1:]  # the first is a corner
        gain = acquisition(self.x, (self.J - self.worst) / self.span(self.J), at, self.part.slope)
        gain[distance(self.x, at).amin(0) == 0] = -1.0
        self.x, self.recent = torch.cat([self.x, at[gain.argmax()][None]]), []

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("x", "J", "weights", "recent", "worst")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Sources:
    """The task of the present source, for every episode."""

    def begin(self, run: Any) -> Any:
        return lambda over: present(run, len(over.rows))


def present(run: Any, n: int) -> dict[str, Any]:
    """The task of the present source, for n episodes."""
    low, high = (torch.tensor(x) for x in (run.spaces.task_low, run.spaces.task_high))
    return {"task": [(low + (high - low) * run.net.deploy.x[-1]).tolist()] * n}


@dataclass(frozen=True)
class FromScratch:
    """The optimiser of the recipe; after each source it and the weights begin again."""

    sources: int
    inner: Any = None

    def begin(self, run: Any) -> Any:
        return LiveFromScratch(self, run)


class LiveFromScratch:
    def __init__(self, part: FromScratch, run: Any):
        self.part, self.run, self.first = part, run, run.net.all.vector.clone()
        remembers = part.inner.state_dict() if hasattr(part.inner, "state_dict") else {}
        self.unused = {name: x.clone() for name, x in remembers.items()}

    def __call__(self, net: Net, loss: Any, rows: Rows) -> float:
        return self.part.inner(net, loss, rows)  # type: ignore[no-any-return]

    def learn(self, window: Batch) -> None:
        """Go on to the next source once the budget of the present one is spent."""
        run, net = self.run, self.run.net
        done = len(net.deploy.J) + 1
        if done == self.part.sources or run.progress * self.part.sources < done:
            return
        net.deploy.close()
        none = torch.zeros_like(self.first)
        net.all.load_state_dict({"weights": self.first, "steps": torch.zeros(()), "mean": none, "square": none})
        if self.unused:
            self.part.inner.load_state_dict(self.unused)
        run.env.begin(torch.arange(run.env.n), [present(run, run.env.n)])

    def state_dict(self) -> dict[str, Tensor]:
        return {"first": self.first}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.first = state["first"].clone()


@patch
def mbtl(sources: int = 5, slope: float = 0.5) -> Patch:
    """Transfer from `sources` tasks; `slope` is what a policy loses over the whole range, as a share of performance."""
    if sources < 1 or slope < 0:
        raise BadRecipe(f"mbtl(sources={sources}, slope={slope}): give at least one source, and no slope below 0")
    return Patch(
        fill={"act.deploy": Portfolio(slope)},
        wrap={"update.step": FromScratch(sources)},
        add={"start.reset": Sources()},
        claims=("task of an episode",),
        silences=("learn.encoder.normalise",),
        domain="control",
    )
