"""The fillings that base recipes are made of. Each is frozen data; equations are in `maths`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from frugal import maths
from frugal.core.errors import BadTask
from frugal.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .policy import Now, Policy
    from .rollout import Sampler
    from .rows import Ask, Rows
    from .tasks.task import Problem, Task

# -- start ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """What an episode begins from; `prefix` is given text of the response, never trained."""

    prompt: Any
    prefix: str = ""


@dataclass(frozen=True)
class FromProblem:
    """Begin with the problem's own prompt."""

    def __call__(self, problem: Problem, rng: torch.Generator) -> Start:
        return Start(problem.prompt)


@dataclass(frozen=True)
class Spread:
    """Keep the groups whose scores differ: dynamic sampling (DAPO, arXiv 2503.14476, eq. 11)."""

    def __call__(self, score: Tensor, rows: Rows) -> Tensor:
        _, std = maths.group_mean_std(score, rows.group, rows.counts)
        return per_group(std > 0, rows.group)


def per_group(flag: Tensor, group: Tensor) -> Tensor:
    """flag [B], equal within a group -> [G], by group in ascending order."""
    ids, where = group.unique(return_inverse=True)
    return flag.new_zeros(len(ids)).scatter(0, where, flag)


# -- act ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """Sample every response to its end."""

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        return sampler(asks, rng)


@dataclass(frozen=True)
class Demonstrations:
    """No sampling: one row a group, the task's own demonstration. Counted as demonstrations and as samples."""

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        from .rollout import rows_of_text

        if not hasattr(sampler.task, "demonstrate"):
            raise BadTask(
                f"sft imitates demonstrations, and {sampler.task.name} has none; give the task a method "
                'demonstrate(problem, random), or the data file a field "response"'
            )
        draw = random.Random(int(torch.randint(2**62, (1,), generator=rng)))
        texts = [sampler.task.demonstrate(ask.problem, draw) for ask in asks]
        sampler.spent.demonstrations += len(texts)
        sampler.spent.samples += len(texts)
        return rows_of_text(asks, texts, sampler.net, sampler.limit)


# -- credit ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    """The task's own score, asked for once a rollout."""

    def __call__(self, rows: Rows, sampler: Sampler) -> Rows:
        from .rollout import judge

        return judge(sampler.task, sampler.net, rows, sampler.spent)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        if not hasattr(task, "score"):
            raise BadTask(f"{task.name} has problems but no verifier; give one: --reward my_reward.py:score")


@dataclass(frozen=True)
class Return:
    """A_t = sum of all rewards of the rollout: REINFORCE (Williams 1992) without a baseline."""

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        return r.sum(1, keepdim=True).expand_as(r)


@dataclass(frozen=True)
class GroupRelative:
    """Outcome minus the group's mean, over the standard deviation of the group, of the batch, or of nothing."""

    scale: Literal["group", "batch", "none"] = "group"
    eps: float = 1e-4

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        A = maths.group_relative(r.sum(1), rows.group, rows.counts, self.scale, self.eps)
        return A[:, None].expand_as(r)


@dataclass(frozen=True)
class LeaveOneOut:
    """Outcome minus the mean of the other rollouts of the group."""

    def __call__(self, r: Tensor, rows: Rows) -> Tensor:
        return maths.leave_one_out(r.sum(1), rows.group, rows.counts)[:, None].expand_as(r)


@dataclass(frozen=True)
class Overlong:
    """Soft penalty, 0 to -1 over the last `buffer` share of the allowed length (DAPO, arXiv 2503.14476, eq. 13)."""

    buffer: float = 0.2

    def __call__(self, rows: Rows) -> Tensor:
        room = max(self.buffer * rows.limit, 1.0)
        over = (rows.length - (rows.limit - room)).clamp(min=0) / room
        return rows.at_end(-torch.where(rows.done, over, 1.0).clamp(max=1).float())


@dataclass(frozen=True)
class KLReward:
    """r_t = -beta (log pi_old - log pi_ref) at every own token: RLHF's penalty inside the reward."""

    beta: float

    needs = {"ref.logp": "logp"}

    def __call__(self, rows: Rows) -> Tensor:
        return -self.beta * maths.k1(rows.old, rows.columns["ref.logp"]) * rows.own


@dataclass(frozen=True)
class TruncatedImportance:
    """w_t = min(pi_old / behaviour, cap): corrects for tokens sampled from something else than the policy."""

    cap: float = 2.0

    def __call__(self, A: Tensor, rows: Rows) -> Tensor:
        return maths.truncated_weight(rows.old, rows.behaviour, self.cap)


# -- learn ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Causal:
    """The model as it is."""

    def __call__(self, model: Any, tokenizer: Any) -> Policy:
        from .policy import Policy

        return Policy(model, tokenizer)


@dataclass(frozen=True)
class Clip:
    """The range of the ratio: [1 - low, 1 + high]."""

    low: float = 0.2
    high: float = 0.2

    def __call__(self, ratio: Tensor, A: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(ratio, 1 - self.low), torch.full_like(ratio, 1 + self.high)


@dataclass(frozen=True)
class PPOClip:
    """-min(rho A, clip(rho) A)."""

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        return maths.ppo_clip(ratio, A, *bounds)


@dataclass(frozen=True)
class ClippedWeight:
    """-sg(min(rho, high)) A log pi: every token keeps a gradient (CISPO, arXiv 2506.13585, eq. 4)."""

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        return -torch.minimum(ratio, bounds[1]).detach() * A * now.logp


@dataclass(frozen=True)
class LogProbability:
    """-A log pi: the policy gradient of the current policy's own samples."""

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        return -A * now.logp


@dataclass(frozen=True)
class Likelihood:
    """-log pi of what is imitated."""

    def __call__(self, now: Now, ratio: Tensor, A: Tensor, bounds: tuple[Tensor, Tensor], mini: Rows) -> Tensor:
        return -now.logp


@dataclass(frozen=True)
class KLTerm:
    """beta k3(pi, pi_ref), added to the loss on every used token (GRPO, arXiv 2402.03300, eq. 4)."""

    beta: float

    needs = {"ref.logp": "logp"}

    def __call__(self, now: Now, mini: Rows) -> Tensor:
        return self.beta * maths.k3(now.logp, mini.columns["ref.logp"])


@dataclass(frozen=True)
class Critic:
    """GAE with a value network of its own: a copy of the policy's body with a scalar head (PPO for language).

    Fitted at the end of each round on (V - return)^2 with values clipped around the old ones (arXiv 2009.01325).
    """

    gamma: float = 1.0
    lam: float = 0.95
    lr: float = 3e-4
    epochs: int = 2
    clip: float = 0.2

    def begin(self, run: Any) -> Any:
        from .critic import LiveCritic

        return LiveCritic(self, run.net.copy())


# -- columns --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entropy:
    """The entropy of the distribution that a token stands in, in nats. logits [n,V] -> [n]"""

    def __call__(self, logits: Tensor, token: Tensor, hidden: Tensor) -> Tensor:
        return maths.entropy(logits)
