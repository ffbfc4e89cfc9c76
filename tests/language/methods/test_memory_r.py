"""Memory-R: memories and rewards by hand, in the order of the released code, and what a resumed run remembers."""

import json

import pytest
import torch

from frugal.core.errors import BadRecipe, Clash
from frugal.language.methods import memory_r as module
from frugal.language.methods.memory_r import D, EpisodicRewards, LiveRewards, Memory, embedding, memory_r
from frugal.language.methods.online_difficulty import online_difficulty
from frugal.language.recipes import grpo
from tests.language.rows import rows

PART = EpisodicRewards(exploit=1.0, explore=1.0, after=1)


def unit(*values):
    """A vector that begins with these values."""
    return torch.tensor([*map(float, values), *[0.0] * (D - len(values))])


def responses(*texts, scores, prompts):
    """Rows of one-digit tokens."""
    batch = rows(list(map(float, scores)), [len(t) for t in texts])
    tokens = batch.tokens.clone()
    for b, text in enumerate(texts):
        tokens[b, : len(text)] = torch.tensor([int(c) for c in text])
    return batch.put(tokens=tokens, prompts=tuple(tuple(map(int, p)) for p in prompts))


def test_embeddings_are_unit_vectors_that_see_order_and_likeness():
    one = embedding([1, 2, 3, 4, 5])
    assert one.shape == (D,) and one.norm() == pytest.approx(1)
    assert torch.equal(one, embedding([1, 2, 3, 4, 5]))
    assert 0.3 < float(one @ embedding([1, 2, 3, 4, 6])) < 0.95
    assert float(one @ embedding([5, 4, 3, 2, 1])) < float(one @ embedding([1, 2, 3, 4, 6]))
    assert float(one @ embedding([60, 70, 80, 90, 50])) < 0.3
    assert embedding([7]).count_nonzero() == 1, "a single token has no pair"


def test_rewards_by_hand():
    """In the order of the rows, all of one question; e(x) is the embedding of response x.

    The 1st is right: alone in its memory, d = 0; no failure is stored, so no explore reward.
    The 2nd is wrong: d = |e(2) - e(1)| is the largest yet, d' = 1; its own copy is among the failures, n = 0.
    The 3rd is right: it joins the 1st, d = |e(3) - e(1)| / 2; n = 1 - cos(e(3), e(2)) is the largest yet, n' = 1.
    The 4th is wrong: d is that to the mean of 1st and 3rd; n = 0 again, n' = 0.
    """
    texts = ["1234", "6789", "1235", "4321"]
    e = [embedding([int(c) for c in text]) for text in texts]
    got = LiveRewards(PART)(responses(*texts, scores=[1, 0, 1, 0], prompts=["9"] * 4))
    assert got.shape == (4, 4) and got[:, :-1].abs().sum() == 0
    d = [0.0, float((e[1] - e[0]).norm()), float((e[2] - e[0]).norm()) / 2]
    d.append(float((e[3] - (e[0] + e[2]) / 2).norm()))
    assert d[2] < d[1] and d[3] < d[1] and float(e[2] @ e[1]) < 1
    wanted = [1.0, 0.0, 1 - d[2] / d[1] + 1.0, 1 - d[3] / d[1]]
    assert got[:, -1].tolist() == pytest.approx(wanted, abs=1e-6)


def test_only_the_nearest_question_answers():
    memory = Memory()
    for q, c in (((1, 0), (1, 0)), ((0, 1), (0, 1)), ((0, 1), (0, 2))):
        memory.insert(unit(*q), unit(*c))
    assert memory.near(unit(0.2, 1)).tolist() == [unit(0, 1).tolist(), unit(0, 2).tolist()]
    assert memory.near(unit(1, 0.2)).tolist() == [unit(1, 0).tolist()]


def test_memories_forget_the_oldest(monkeypatch):
    monkeypatch.setattr(module, "QUESTIONS", 2)
    monkeypatch.setattr(module, "RESPONSES", 2)
    memory = Memory()
    for q, c in ((1, 1), (2, 2), (2, 3), (2, 4), (3, 5)):
        memory.insert(unit(q), unit(c))
    assert memory.questions[:, 0].tolist() == [2, 3]
    assert [[float(c[0]) for c in stored] for stored in memory.stored] == [[3, 4], [5]]


def test_values_are_scaled_between_the_extremes_of_the_last_hundred():
    memory = Memory()
    assert [memory.scaled(x) for x in (0.5, 0.5, 1.0, 0.75, 0.0)] == [0.5, 0.5, 1.0, 0.5, 0.0]
    assert [memory.scaled(0.25) for _ in range(100)][-1] == 0.25, "all that was seen before is forgotten"
    assert all(0 <= Memory().scaled(x) <= 1 for x in (0.0, 0.3, 1.0))


def test_failures_speak_only_when_enough_questions_have_failed():
    part = EpisodicRewards(exploit=0.0, explore=2.0, after=2)
    live = LiveRewards(part)
    first = live(responses("123", "456", scores=[0, 1], prompts=["8", "8"]))
    assert first.abs().sum() == 0
    second = live(responses("123", "456", scores=[0, 1], prompts=["9", "9"]))
    assert second[0].sum() == 0 and second[1, -1] == pytest.approx(2.0), "the novelty of the right one is the largest"


def test_a_resumed_memory_goes_on_as_it_would_have():
    first = responses("1234", "4321", "11", scores=[1, 0, 1], prompts=["9", "9", "8"])
    then = responses("1243", "4321", scores=[0, 1], prompts=["9", "7"])
    live, again, empty = LiveRewards(PART), LiveRewards(PART), LiveRewards(PART)
    empty.load_state_dict(again.state_dict())
    live(first)
    state = live.state_dict()
    tensors = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
    again.load_state_dict(tensors | json.loads(json.dumps({k: v for k, v in state.items() if k not in tensors})))
    assert torch.equal(live(then), again(then))
    assert torch.equal(empty(first), LiveRewards(PART)(first))


def test_rows_that_nobody_wrote_are_neither_stored_nor_rewarded():
    live, batch = LiveRewards(PART), responses("12", "34", scores=[1, 1], prompts=["9", "9"])
    got = live(batch.put(own=torch.tensor([[True, True], [False, False]])))
    assert got[1].abs().sum() == 0 and len(live.right.stored[0]) == 1


def test_clashes_with_what_throws_its_groups_away():
    with pytest.raises(Clash, match="all-wrong"):
        grpo() + memory_r() + online_difficulty()


@pytest.mark.parametrize("options", [{"exploit": -1.0}, {"explore": -1.0}, {"after": 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(BadRecipe, match="after >= 1"):
        memory_r(**options)
