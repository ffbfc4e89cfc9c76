"""COPO: the blend by hand, against statistics written out, its limits, and what a response's answer is."""

import math
import random
import statistics
from collections import Counter

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods.copo import ConsistencyBlend, bits, copo
from frugal.language.methods.online_difficulty import online_difficulty
from frugal.language.parts import GroupRelative
from frugal.language.recipes import dapo, grpo, reinforce
from frugal.language.rows import Rows
from tests.language.rows import rows
from tests.language.tinyrun import Letters, launch, policy, spy


def advantages(batch: Rows, answers: list[str], gamma: float, rho: float, wrong_global: bool = False) -> list[float]:
    """One number for each row, with the group's own advantage without eps."""
    blend = ConsistencyBlend(gamma, rho, "", wrong_global, inner=GroupRelative(eps=0.0))
    A = blend.blend(batch.at_end(batch.score), batch, answers)
    assert A.dtype == torch.float32 and A.shape == batch.own.shape
    return A[:, 0].tolist()


def three_prompts() -> tuple[Rows, list[str]]:
    """One all right with one answer, one all wrong with two, one mixed. Groups 7, 2 and 4, interleaved."""
    return rows([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [2] * 6, [7, 2, 4, 7, 2, 4]), ["8", "3", "6", "8", "5", "9"]


def test_entropy_by_hand():
    """1/2, 1/4, 1/4: 1/2 + 2/4 + 2/4 bits; eight different answers: 3 bits."""
    assert bits(["4"] * 5) == 0.0
    assert bits(["4", "4", "3", "5"]) == 1.5
    assert bits(list("abcdefgh")) == 3.0


def test_equation_by_hand():
    """R = 1, 0, 1/2: A_global = 1, -1, 0. H = 0, 1, 1 bit; with gamma = ln 3, rho = 1: w = 1/4, 1/2, 1/2.

    The mixed group has std sqrt(1/2), so A_local = +-sqrt(1/2); the other two have A_local = 0.
    """
    got = advantages(*three_prompts(), gamma=math.log(3), rho=1.0)
    half = math.sqrt(1 / 2) / 2
    wanted = [3 / 4, -1 / 2, half, 3 / 4, -1 / 2, -half]
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_responses_of_reward_0_can_have_the_global_term_alone():
    got = advantages(*three_prompts(), gamma=math.log(3), rho=1.0, wrong_global=True)
    wanted = [3 / 4, -1, math.sqrt(1 / 2) / 2, 3 / 4, -1, 0]
    assert got == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_its_limits_are_the_group_and_the_batch():
    batch, answers = three_prompts()
    plain = GroupRelative(eps=0.0)(batch.at_end(batch.score), batch)[:, 0].tolist()
    assert advantages(batch, answers, gamma=math.inf, rho=-1.0) == plain
    assert advantages(batch, answers, gamma=100.0, rho=9.0) == pytest.approx([1, -1, 0, 1, -1, 0], rel=1e-5, abs=1e-6)


def test_equals_the_statistics_written_out():
    draw = random.Random(0)
    for _ in range(20):
        groups = {g: [(draw.choice([0.0, 0.5, 1.0]), draw.choice("123")) for _ in range(4)] for g in (5, 2, 8)}
        means = [statistics.mean(s for s, _ in v) for v in groups.values()]
        wanted = []
        for v in groups.values():
            scores, f = [s for s, _ in v], [n / 4 for n in Counter(a for _, a in v).values()]
            w = 1 / (1 + math.exp(-2.0 * (-sum(p * math.log2(p) for p in f) - 0.7)))
            mean, std = statistics.mean(scores), statistics.stdev(scores)
            standing = (mean - statistics.mean(means)) / (statistics.stdev(means) + 1e-6)
            wanted += [w * ((s - mean) / std if std else 0.0) + (1 - w) * standing for s in scores]
        batch = rows([s for v in groups.values() for s, _ in v], [2] * 12, [g for g in groups for _ in range(4)])
        answers = [a for v in groups.values() for _, a in v]
        assert advantages(batch, answers, gamma=2.0, rho=0.7) == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_rows_outside_the_statistics_change_nothing():
    """A greedy row that does not count, and an imaginary one that nobody sampled."""
    batch, answers = three_prompts()
    more = batch + rows([0.0, 0.0], [2, 2], [7, 7]).put(
        counts=torch.tensor([False, True]), own=torch.tensor([[True, True], [False, False]])
    )
    pure = {"gamma": 100.0, "rho": 9.0}  # the global term alone
    assert advantages(more, [*answers, "x", "y"], **pure)[:6] == advantages(batch, answers, **pure)


def test_the_answer_is_the_last_match_of_the_last_turn():
    final = copo().wrap["credit.advantage"].final
    assert final("7*3+5*2=1+5*2=1+0=1") == "1"
    assert final("so it is -12.5.") == "-12.5"
    assert final(["first 3", "then 4"]) == "4"
    assert final("I do not know") == ""
    assert copo(answer="[a-c]").wrap["credit.advantage"].final("abcdef") == "c"


class SomeRight(Letters):
    """Two prompts: every response to the first is right, every one to the second wrong."""

    def problems(self, split):
        return super().problems(split)[:2]

    def score(self, problems, completions):
        return [float(p.prompt == "a") for p in problems]


def test_unanimous_rounds_teach_something_in_the_loop():
    """R = 1 and 0: A_global = +-sqrt(1/2). No response of letters has a number: H = 0, so w = sigmoid(-5)."""
    seen: list = []
    launch(grpo(prompts=2, group=4) + copo() + spy(seen), SomeRight(), policy(), samples=8)
    (_, mini), *rest = seen
    assert not rest and len(mini) == 8
    size = math.sqrt(1 / 2) * (1 - 1 / (1 + math.exp(5)))
    right = torch.tensor([p.prompt == "a" for p in mini.problems])
    assert mini.A[mini.use].tolist() == pytest.approx(
        torch.where(right, size, -size)[:, None].expand_as(mini.A)[mini.use].tolist(), rel=1e-5
    )


def test_clashes_with_what_throws_its_groups_away_and_leans_on_groups():
    with pytest.raises(Clash, match="all-right"):
        grpo() + copo() + online_difficulty()
    with pytest.raises(Clash, match="all-right"):
        dapo() + copo()
    with pytest.raises(BadRecipe, match="compares a group's rewards"):
        (reinforce() + copo()).check()


def test_nonsense_is_refused():
    with pytest.raises(BadRecipe, match="gamma"):
        copo(gamma=math.inf, rho=0.0)
    with pytest.raises(BadRecipe, match="regular expression"):
        copo(answer="(")
