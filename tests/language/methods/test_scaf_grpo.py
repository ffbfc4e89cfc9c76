"""Scaf-GRPO: who is helped, which success stays, and the advantages of what remains, by hand."""

from types import SimpleNamespace

import pytest
import torch

from frugal.core.errors import BadRecipe
from frugal.language.methods.scaf_grpo import Scaffold, hints, scaf_grpo
from frugal.language.parts import GroupRelative
from frugal.language.recipes import grpo
from frugal.language.slots import Settings
from frugal.language.tasks.task import Problem
from tests.language.rows import rows
from tests.language.tinyrun import Letters, launch, policy, spy

PROBLEM = Problem("d", columns={"solution": "abcdef"})


def scaffold(exempt=0.15, progress=0.5):
    return Scaffold(exempt, "").begin(SimpleNamespace(net=policy(), settings=Settings(max_tokens=6), progress=progress))


def of(batch):
    return batch.put(problems=(PROBLEM,) * len(batch))


def answered(extra, scores):
    """The rows that were asked for, with these scores, shuffled: nothing may rest on their order."""
    order = [2, 0, 3, 1][: len(extra.asks)]
    batch = of(rows([scores[i] for i in order], [2] * len(order), [extra.asks[i].group for i in order]))
    return batch.put(prompts=tuple(extra.asks[i].prompt for i in order))


def after(scores, group=8):
    """A failed group, helped at four levels with these scores, as it remains."""
    part, batch = scaffold(), of(rows([0.0] * group, [2] * group, [3] * group))
    batch = batch + answered(part(batch, 0), scores)
    extra = part(batch, 1)
    assert not extra.asks and extra.ready is None and not part(batch, 2)
    return part, batch.take(~extra.drop)


def test_one_response_at_each_level_for_failed_groups_alone():
    part = scaffold()
    extra = part(of(rows([0.0, 1.0, 0.0, 0.0], [2] * 4, [4, 1, 4, 1])), 0)
    assert [part.run.net.decode(ask.prompt) for ask in extra.asks] == ["dab", "dabc", "dabcd", "dabcdef"]
    assert {(ask.group, ask.n, ask.greedy, ask.counts, ask.trains) for ask in extra.asks} == {(4, 1, False, True, True)}
    assert extra.drop is None
    assert not part(of(rows([1.0, 0.0], [2] * 2)), 0)


def test_the_least_helped_success_takes_the_place_of_one_failure():
    """Levels 1 and 3 succeed, and 1 stays. Rewards 0 x 7 and 1: mean 1/8, std sqrt(1/8)."""
    part, batch = after([0.0, 1.0, 0.0, 1.0])
    assert batch.score.tolist() == [0.0] * 7 + [1.0]
    assert part.run.net.decode(batch.prompts[-1]) == "dabc" and set(batch.prompts[:-1]) == {(1, 2)}
    A = GroupRelative(eps=0.0)(batch.at_end(batch.score), batch)[:, 0].tolist()
    assert A == pytest.approx([-0.125 * 8**0.5] * 7 + [0.875 * 8**0.5])  # -0.354 and 2.475


def test_a_group_that_no_hint_helps_stays_as_it_is():
    _, batch = after([0.0] * 4)
    assert batch.score.tolist() == [0.0] * 8 and set(batch.prompts) == {(1, 2)}


def test_groups_are_kept_apart():
    """Group 9 is helped at its last level, group 2 not at all, group 5 needs no help."""
    part = scaffold()
    batch = of(rows([0.0, 0.0, 0.0, 1.0, 0.0], [2] * 5, [9, 2, 9, 5, 5]))
    extra = part(batch, 0)
    assert [ask.group for ask in extra.asks] == [2] * 4 + [9] * 4
    there = of(rows([0.0] * 7 + [1.0], [2] * 8, [ask.group for ask in extra.asks]))
    batch = batch + there.put(prompts=tuple(ask.prompt for ask in extra.asks))
    left = batch.take(~part(batch, 1).drop)
    assert sorted(zip(left.group.tolist(), left.score.tolist(), strict=True)) == [
        (2, 0.0), (5, 0.0), (5, 1.0), (9, 0.0), (9, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize("progress, helped", [(0.0, False), (0.15, False), (0.16, True), (1.0, True)])
def test_no_help_at_first(progress, helped):
    batch = of(rows([0.0, 0.0], [2] * 2))
    part = scaffold(progress=progress)
    assert bool(part(batch, 0)) is helped
    assert not scaffold(exempt=1.0, progress=progress)(batch, 0)
    assert helped or not part(batch, 1)


def test_levels():
    """A quarter of six letters is round(1.5) = 2, three quarters round(4.5) = 4; no level twice, none empty."""
    assert hints(PROBLEM) == ["ab", "abc", "abcd", "abcdef"]
    assert hints(Problem("d", columns={"solution": "ab"})) == ["a", "ab"]
    assert hints(Problem("d", columns={"solution": "ab", "hints": ["e", "ef"]})) == ["e", "ef"]


class Helped(Letters):
    """Only the response at the second level is ever right; evaluation asks first, then the round, then the help."""

    asked = 0

    def problems(self, split):
        return [PROBLEM] * 2

    def score(self, problems, completions):
        self.asked += 1
        return [float(self.asked == 3 and i % 4 == 1) for i in range(len(completions))]


def test_in_the_loop():
    seen: list = []
    net = policy()
    run = launch(grpo(prompts=2, group=4) + scaf_grpo(exempt=0.0) + spy(seen), Helped(), net, samples=8)
    ((_, mini),) = seen
    assert run.ledger.samples == 8 + 8 and run.ledger.flat_groups == 0
    assert len(mini) == 8 and mini.group.bincount().tolist() == [4, 4]
    helped = torch.tensor([net.decode(prompt) == "dabc" for prompt in mini.prompts])
    assert helped.sum() == 2 and mini.score[helped].tolist() == [1.0, 1.0] and not mini.score[~helped].any()
    assert (mini.A[helped, 0] > 1).all() and (mini.A[~helped, 0] < 0).all()


def test_nonsense_is_refused():
    with pytest.raises(BadRecipe, match="share of the run"):
        scaf_grpo(exempt=50)
