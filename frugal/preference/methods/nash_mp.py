"""Towards the policy that nothing beats: look one regularised step ahead, then take the step against what came of it.

Changes      act.answers: a response y of the policy pi, and one y' of an opponent mu
             learn.loss: (1/2 - l) z + tau z^2 / 2, where l = 1 if y beat y', z = log pi(y) / nu(y) and
             tau = beta (1 + 1 / eta): on the policy's own y its gradient is that of
             P(mu > pi) + beta KL(pi, pi_ref) + (beta / eta) KL(pi, pi_k)
             credit.label: l = 1/2 of two equal responses, which the base leaves out; without them a response's KL terms
             would weigh the less, the likelier the opponent writes it
             learn.reference: log nu = (eta log pi_ref + log pi_k) / (1 + eta)
             For `rounds` rounds mu = pi_k, and the policy becomes pi_{k+1/2}; for as many more mu = pi_{k+1/2}, with
             the same pi_k, and the policy becomes pi_{k+1}
Source       Accelerating Nash Learning from Human Feedback via Mirror Prox, Tiapkin et al. 2025, arXiv 2505.19731v1
             (version 2 is about another algorithm): the two half-steps of Nash-MP, and eta = 2 beta of its analysis,
             where KL(pi*, pi_k) shrinks at least by 1 / (1 + 2 beta) from one k to the next
Ours         `rounds` steps of policy gradient stand for each argmin, and the second argmin is sought from where the
             first one ended instead of from pi_k. The paper's recipe for language models, in which one slowly moving
             average takes the place of pi_k, is left out. Rewards are the labels themselves, less the constant 1/2;
             `lookahead=False` leaves out the second half-step, which makes it mirror descent against oneself: the
             opponent is renewed as often, the anchor twice as often, so that the two part only as far as `rounds` steps
             come near the argmin
Leans on     a base that compares its own samples (`online-dpo`)
Experiment   experiments/preference/nash_mp.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from frugal.core.errors import BadRecipe
from frugal.core.recipe import Patch, patch
from frugal.lazy import torch
from frugal.preference.parts import FromPolicy, StartModel, ThisRound, drawn_by

if TYPE_CHECKING:
    from torch import Tensor

    from frugal.language.policy import Policy
    from frugal.language.rollout import Sampler
    from frugal.language.rows import Ask, Rows
    from frugal.language.tasks.task import Task
    from frugal.preference.oracles import Asking
    from frugal.preference.pairs import Pairs

BASE = "online-dpo"
KEPT = ("anchor", "opponent")  # pi_k and mu, among the policy's `others`


@dataclass(frozen=True)
class AgainstOpponent:
    """One response of the policy to every prompt, and after them one of the opponent's."""

    rounds: int
    lookahead: bool

    def begin(self, run: Any) -> Opponents:
        return Opponents(self, run.net)

    def check(self, task: Task, net: Policy, limit: int) -> None:
        FromPolicy().check(task, net, limit)


class Opponents:
    """Draws the responses, and renews pi_k and mu."""

    def __init__(self, chosen: AgainstOpponent, net: Policy):
        self.chosen, self.net, self.done = chosen, net, 0
        for name in KEPT:
            net.others[name] = net.copy()
            net.others[name].model.requires_grad_(False)

    def __call__(self, asks: Sequence[Ask], sampler: Sampler, rng: torch.Generator) -> Rows:
        each = [replace(ask, n=1) for ask in asks]
        return sampler(each, rng) + drawn_by("opponent", each, sampler, rng)

    def learn(self, pairs: Pairs) -> None:
        """A round is over."""
        self.done += 1
        n = self.chosen.rounds
        if self.done % n == 0:
            self._renew("opponent", dict(self.net.model.named_parameters()))
        if self.done % (2 * n if self.chosen.lookahead else n) == 0:
            self._renew("anchor", dict(self.net.model.named_parameters()))

    def state_dict(self) -> dict[str, Any]:
        weights = {f"{name}.{key}": p for name in KEPT for key, p in self.net.others[name].model.named_parameters()}
        return {"done": self.done, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.done = int(state["done"])
        for name in KEPT:
            self._renew(name, {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")})

    def _renew(self, name: str, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for key, p in self.net.others[name].model.named_parameters():
                p.copy_(weights[key])


@dataclass(frozen=True)
class EvenWithItself:
    """A label for equal responses too, of which no oracle is asked: each wins half of the time."""

    inner: Any = None

    def __call__(self, rows: Rows, ask: Asking) -> Pairs:
        from frugal.language.rollout import completions

        left = ask.run.left()
        pairs = self.inner(rows, ask)
        texts = completions(ask.net, pairs.rows)
        same = [texts[a] == texts[b] for a, b in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)]
        even = torch.tensor(same).bool() & (torch.arange(len(pairs)) < left) & pairs.y.isnan()
        return pairs.put(y=torch.where(even, 0.5, pairs.y))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Between:
    """log nu of the head. [b,T]"""

    eta: float

    needs = StartModel.needs

    def begin(self, run: Any) -> Callable[[Rows], Tensor]:
        def reference(rows: Rows) -> Tensor:
            from frugal.language.gradient import look

            with run.net.seen_by("anchor") as anchor:
                before = look(rows, anchor, {}, anchor.micro_tokens)["logp"]
            return (self.eta * rows.columns["ref.logp"] + before) / (1 + self.eta)

        return reference


@dataclass(frozen=True)
class ProximalStep:
    """(1/2 - y) z_a + tau z_a^2 / 2: a is the policy's own response, b the opponent's. [n]"""

    tau: float

    def __call__(self, z_a: Tensor, z_b: Tensor, mini: Pairs) -> Tensor:
        return (0.5 - mini.y) * z_a + self.tau * z_a.square() / 2


@patch
def nash_mp(beta: float = 0.1, eta: float | None = None, rounds: int = 4, lookahead: bool = True) -> Patch:
    """Nash mirror prox: the game with a KL penalty `beta`, in steps of the size `eta` (None: 2 beta)."""
    eta = 2 * beta if eta is None else eta
    if min(beta, eta) <= 0 or not isinstance(rounds, int) or rounds < 1:
        raise BadRecipe(f"nash-mp(beta={beta}, eta={eta}, rounds={rounds}): give numbers above 0, rounds a whole one")
    return Patch(
        fill={
            "act.answers": AgainstOpponent(rounds, lookahead),
            "learn.reference": Between(eta),
            "learn.loss": ProximalStep(beta * (1 + 1 / eta)),
            "update.memory": ThisRound(),  # the gradient is right on the present policy's responses only
        },
        wrap={"credit.label": EvenWithItself()},
        silences=("group", "epochs", "minibatches"),
        leans_on={"compares its own samples": "the policy and its opponent write what is compared"},
        domain="preference",
    )
