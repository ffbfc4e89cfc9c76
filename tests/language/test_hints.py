"""Which groups failed, what a hinted prompt is, and rows that a part leaves out of the round."""

from dataclasses import dataclass

import pytest
import torch

from frugal.core.errors import BadTask
from frugal.core.recipe import Patch
from frugal.language.hints import by_group, failed, solution, with_hint
from frugal.language.methods.ngrpo import VirtualRows
from frugal.language.policy import Policy
from frugal.language.recipes import grpo
from frugal.language.rows import Ask, Extra, Rows
from frugal.language.tasks.task import Problem
from tests.language.rows import rows
from tests.language.tinyrun import Letters, launch, policy, spy


def test_a_group_fails_when_nothing_that_it_sampled_scores():
    """Not an imagined right answer, nor a greedy one outside the statistics; a little is a success."""
    batch = rows([0.0, 0.0, 0.0, 0.1, 0.0, -1.0], [2] * 6, [5, 5, 2, 2, 7, 7])
    assert failed(batch).tolist() == [True, True, False, False, True, True]
    imagined = VirtualRows(1, 1.0)(batch, 0).ready
    greedy = rows([1.0], [2], [5]).put(counts=torch.tensor([False]))
    assert failed(batch + imagined + greedy).tolist() == [True, True, False, False, True, True] + [False] * 4
    assert list(by_group(batch, failed(batch))) == [(5, [0, 1]), (7, [4, 5])]


def test_a_hint_follows_the_prompt():
    net = policy()
    assert net.decode(with_hint(net, Problem("ab"), "f", "cd", room=6)) == "abfcd"
    with pytest.raises(BadTask, match="64"):
        with_hint(net, Problem("ab"), "", "c" * 60, room=6)


def test_in_a_chat_the_hint_ends_the_last_message():
    class Chat(Policy):
        def encode(self, prompt, prefix=""):
            return super().encode("".join(f"{m['role'][0]}{m['content']}" for m in prompt))

    net = policy()
    net.__class__ = Chat
    told = [{"role": "a", "content": "b"}, {"role": "c", "content": "d"}]
    assert net.decode(with_hint(net, Problem(told), "e", "f", room=6)) == "abcdef"
    assert told[1]["content"] == "d"


def test_a_problem_without_a_solution():
    assert solution(Problem("ab", columns={"solution": "cd"})) == "cd"
    with pytest.raises(BadTask, match="solution"):
        solution(Problem("ab"))


@dataclass(frozen=True)
class Swap:
    """Once a round: leaves out the row at `place` of every group and asks for a greedy one of another prompt."""

    place: int

    def __call__(self, batch: Rows, k: int) -> Extra:
        if k:
            return Extra()
        drop = torch.zeros(len(batch), dtype=torch.bool)
        for _, members in by_group(batch, batch.sampled):
            drop[members[self.place]] = True
        return Extra([Ask(batch.problems[0], (2, 3, 4 + self.place), int(batch.group[0]), greedy=True)], drop=drop)


def test_parts_leave_rows_out_of_the_round_each_its_own():
    """Two groups of 4: each part drops one row a group and adds one to the first. All 10 are charged, 6 remain."""
    seen: list = []
    swaps = [Patch(add={"start.extra": Swap(place)}, name=f"swap {place}") for place in (0, 2)]
    run = launch(grpo(prompts=2, group=4) + swaps[0] + swaps[1] + spy(seen), Letters(), policy(), samples=8)
    ((_, mini),) = seen
    assert run.ledger.samples == 10 and run.ledger.verifier_calls == 10
    assert len(mini) == 6 and [int(n) for n in mini.group.bincount()] == [4, 2]
    assert {(2, 3, 4), (2, 3, 6)} <= set(mini.prompts[-2:])
    line = next(line for line in run.curve if line["kind"] == "train")
    assert line["patches"]["start.extra.swap 0"] == 0.5  # one row, asked twice


def test_an_extra_is_true_when_it_wants_something():
    assert not Extra() and not Extra(asks=[])
    assert Extra(drop=torch.tensor([False])) and len(Extra([Ask(Problem("a"), (2,), 0, n=3)])) == 3
