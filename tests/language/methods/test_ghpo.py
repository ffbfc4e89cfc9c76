"""GHPO: which prompts are sampled again, in the loop and against the log-probabilities of the extended prompt."""

from types import SimpleNamespace

import pytest
import torch

from frugal.core.errors import BadRecipe, BadTask, Clash
from frugal.language.methods.ghpo import PartialSolution, ghpo
from frugal.language.methods.ngrpo import ngrpo
from frugal.language.methods.scaf_grpo import scaf_grpo
from frugal.language.recipes import dapo, grpo
from frugal.language.slots import Settings
from frugal.language.tasks.task import Problem
from tests.language.rows import rows
from tests.language.tinyrun import Constant, Letters, by_hand, exact, launch, policy, spy

SOLUTION = "abcdef"  # a quarter of it is round(1.5) = 2 letters, half 3, three quarters round(4.5) = 4


class Solved(Letters):
    """Every problem comes with a solution. After evaluation, which asks first, nobody is right `nobody` times, then
    every other response."""

    def __init__(self, nobody: int):
        self.asked, self.nobody = 0, nobody + 1

    def problems(self, split):
        return [Problem(letter, columns={"solution": SOLUTION}) for letter in "abcd"]

    def score(self, problems, completions):
        self.asked += 1
        return [float(self.asked > self.nobody and i % 2 == 0) for i in range(len(completions))]


def retry(batch, k, stages=(0.25, 0.5, 0.75), words=""):
    run = SimpleNamespace(net=policy(), settings=Settings(max_tokens=6))
    extra = PartialSolution(stages, words).retry(batch, k, run)
    return extra, [run.net.decode(ask.prompt) for ask in extra.asks]


def two_groups():
    """Group 4: three failures; group 1: one success of two. Interleaved."""
    batch = rows([0.0, 1.0, 0.0, 0.0, 0.0], [2] * 5, [4, 1, 4, 1, 4])
    return batch.put(problems=tuple(Problem("d", columns={"solution": SOLUTION}) for _ in range(5)))


def test_a_failed_group_is_sampled_again_whole_and_no_other():
    for k, prompt in enumerate(["dab", "dabc", "dabcd"]):
        extra, prompts = retry(two_groups(), k)
        assert prompts == [prompt]
        assert [(ask.group, ask.n, ask.counts, ask.trains, ask.greedy) for ask in extra.asks] == [
            (4, 3, True, True, False)
        ]
        assert extra.drop.tolist() == [True, False, True, False, True]


def test_after_the_last_stage_the_group_stays_as_it_is():
    assert not retry(two_groups(), 3)[0]
    assert not retry(two_groups(), 0, stages=())[0]


def test_groups_with_a_success_are_passed_through():
    assert not retry(two_groups().take(torch.tensor([1, 3])), 0)[0]


def test_words_stand_between_prompt_and_hint():
    assert retry(two_groups(), 0, words="fff")[1] == ["dfffab"]


def one_round(task, recipe=None):
    seen: list = []
    net = policy()
    model = exact(net)
    recipe = recipe or grpo(prompts=2, group=4, lr=0) + ghpo()
    run = launch(recipe + spy(seen), task, net, samples=8, evaluations=1)
    ((now, mini),) = seen
    return run, now, mini, model, net


@pytest.mark.parametrize("nobody, hint, samples", [(0, "", 8), (1, "ab", 16), (2, "abc", 24), (3, "abcd", 32)])
def test_the_least_hint_that_helps_in_the_loop(nobody, hint, samples):
    """Every second response is right: A = +-1/2 over (std of 1, 0, 1, 0, which is sqrt(1/3), + 1e-4)."""
    run, now, mini, model, net = one_round(Solved(nobody))
    assert run.ledger.samples == samples
    assert [net.decode(prompt)[1:] for prompt in mini.prompts] == [hint] * 8
    size = 0.5 / ((1 / 3) ** 0.5 + 1e-4)
    assert mini.A[:, 0].tolist() == pytest.approx([size, -size] * 4)
    for b, prompt in enumerate(mini.prompts):
        n = int(mini.length[b])
        theirs = by_hand(model, prompt, mini.tokens[b, :n].tolist())
        torch.testing.assert_close(now.logp[b, :n].double(), theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mini.old[b, :n].double(), theirs, rtol=1e-5, atol=1e-5)


def test_a_round_that_nothing_helps():
    run, _, mini, _, net = one_round(Solved(99))
    assert run.ledger.samples == 32 and run.ledger.flat_groups == 2
    assert [net.decode(prompt)[1:] for prompt in mini.prompts] == ["abcd"] * 8 and not mini.A.any()


def test_dynamic_sampling_sees_what_became_of_the_failed_groups():
    run, _, mini, _, _ = one_round(Solved(1), dapo(prompts=2, group=4, lr=0) + ghpo())
    assert run.ledger.rejected_groups == 0 and len(mini) == 8


def test_an_imagined_response_helps_nobody():
    run, _, mini, _, _ = one_round(Solved(1), grpo(prompts=2, group=4, lr=0) + ghpo() + ngrpo())
    assert run.ledger.samples == 16 and len(mini) == 8


def test_a_problem_without_a_solution_is_said_to_lack_one():
    with pytest.raises(BadTask, match='field "solution"'):
        launch(grpo(prompts=2, group=4) + ghpo(), Constant(0.0), policy(), samples=8)


def test_clashes_with_another_owner_of_the_failed_groups():
    with pytest.raises(Clash, match="failed groups"):
        grpo() + ghpo() + scaf_grpo()


@pytest.mark.parametrize("stages", [(0.5, 0.25), (0.0, 0.5), (0.5, 1.5), (0.5, 0.5)])
def test_nonsense_is_refused(stages):
    with pytest.raises(BadRecipe, match="stages"):
        ghpo(stages=stages)
