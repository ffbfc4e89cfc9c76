"""rm-lab and pairs: rewards, labels and pairs by hand, and what is exact."""

import math
from random import Random

import pytest
import torch

from frugal import maths
from frugal.core.errors import BadTask, UnknownName
from frugal.language.policy import Policy
from frugal.language.tasks.task import Problem, Task
from frugal.language.tiny import accuracy
from frugal.preference.tasks import BUILT_IN
from frugal.preference.tasks.closing import Closing, wishes
from frugal.preference.tasks.find import find_task
from frugal.preference.tasks.pairs import RESPONSES
from frugal.preference.tasks.rm_lab import RMLab, reward
from frugal.preference.tasks.tiny import STEPS, load_tiny


@pytest.mark.parametrize("name", sorted({*STEPS, "closing"}))
def test_pools_have_pairs_and_repeat(name):
    task = BUILT_IN[name]()
    assert isinstance(task, Task)
    train, test = task.problems("train"), task.problems("test")
    assert len(train) == 4096
    for problem in [*train, *test]:
        assert set(problem.columns) == {"chosen", "rejected"} and len(set(problem.columns.values())) == 2
    assert BUILT_IN[name](seed=1).problems("test") != test
    task.problems.__globals__["_pools"].cache_clear()
    assert task.problems("train") == train and task.problems("test") == test


def test_names():
    assert {*STEPS, "brief", "closing"} == set(BUILT_IN)


def test_brief_by_hand_and_held_out():
    problem = Problem("Tell me about the otter in one short sentence.", "otter")
    texts = {
        "The otter lives in rivers and eats fish.": 1.0,
        "Otters live in rivers! They eat fish.": 2 / 3,
        "They live in rivers and eat fish.": 2 / 3,
        "The otter swims.": 2 / 3,
        "The otter": 1 / 3,
        "": 0.0,
    }
    assert BUILT_IN["brief"]().score([problem] * 6, list(texts)) == pytest.approx(list(texts.values()))
    train, test = (BUILT_IN["brief"]().problems(split) for split in ("train", "test"))
    assert {p.reference for p in train}.isdisjoint(p.reference for p in test) and (len(train), len(test)) == (372, 64)


def test_briefs_demonstrations_are_right():
    task = BUILT_IN["brief"]()
    for problem in task.problems("train"):
        assert task.score([problem], [task.demonstrate(problem, Random(0))]) == [1.0]


@pytest.mark.parametrize(
    "text, met",
    [
        ("", (False, False, True)),
        ("hi", (False, True, True)),
        ("cabhi", (True, True, True)),
        ("cab", (True, False, True)),
        ("cabh", (True, False, True)),
        ("cahib", (True, False, True)),
        ("dddddddcabhi", (True, True, True)),
        ("ddddddddcabhi", (True, True, False)),
    ],
)
def test_the_wishes_of_closing_by_hand(text, met):
    assert wishes("abc=", text) == met and wishes("bhi=", "bhi") == (False, True, True)
    assert Closing().score([Problem("abc=")], [text]) == [float(all(met))]
    share = sum(met) / 3
    assert Closing().prefer([Problem("abc=")], [text], ["d" * 13]) == [pytest.approx(1 / (1 + math.exp(-6 * share)))]


def test_closings_demonstrations_are_better_than_its_model_and_not_the_best():
    """What its text says of shares, within five sigma of 2000."""
    task, random = Closing(), Random(0)
    met = [wishes(str(p.prompt), task.demonstrate(p, random)) for p in task.problems("train")[:2000]]
    assert 0.44 < sum(end for _, end, _ in met) / 2000 < 0.56
    assert 0.14 < sum(map(all, met)) / 2000 < 0.26


@pytest.mark.parametrize("task", [RMLab(), Closing()])
def test_rm_lab_and_closing_hold_prompts_out(task):
    held_out = {p.prompt for p in task.problems("test")}
    assert len(held_out) == 128 and held_out.isdisjoint(p.prompt for p in task.problems("train"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", 0),
        ("a", 2 / 9),
        ("abc", 2 / 3),
        ("aabbccc", 1),
        ("abcdefghij", 2 / 3),
        ("aaaaabbbbbccccc", 0),
        ("a" * 6, -1 / 3),
    ],
)
def test_the_reward_of_rm_lab_by_hand(text, expected):
    """1 is worth 2/3, two and three 1, five 0, six -1; the mean over three letters."""
    assert reward("abc=", text) == pytest.approx(expected)


def test_rm_labs_oracle_is_bradley_terry():
    assert RMLab().prefer([Problem("abc=")], ["abc"], [""]) == [pytest.approx(1 / (1 + math.exp(-8 / 3)))]


@pytest.mark.parametrize("name", sorted(STEPS))
def test_labels_of_the_data_are_drawn_and_flipped_as_asked(name):
    """Mean log-odds of the labels: the chance that the data's winner wins again, against that with 40% turned round."""

    def agrees(task):
        pool = task.problems("train")
        P = task.prefer(pool, *([p.columns[side] for p in pool] for side in ("chosen", "rejected")))
        return sum(P) / len(P)

    clean, flipped = agrees(find_task(name)), agrees(find_task(f"{name}(flips=40)"))
    assert clean > 0.6
    assert flipped == pytest.approx(0.5 + 0.2 * (clean - 0.5), abs=0.02)  # (1 - 2 * 0.4) of what is beyond chance


@pytest.mark.parametrize("cyclic", [0, 60, 100])
def test_preferences_of_pairs_are_a_game(cyclic):
    """P + P^T = 1, one half on the diagonal; all of it cyclic, nobody is better than the even mixture."""
    task = find_task(f"pairs(prompts=4, cyclic={cyclic})")
    r, P = task.matrices([*RESPONSES, "", "07"])
    assert P.shape == (4, 18, 18) and torch.allclose(P + P.mT, torch.ones(()).double())
    assert (r[:, 16:] == -4).all() and (P[:, :16, 16:] == 1).all() and (P[:, 16, 17] == 0.5).all()
    wins = P[:, :16, :16].mean(2)
    if cyclic == 100:
        assert torch.allclose(wins, torch.full_like(wins, 0.5))
    else:
        assert wins.std() > 0.05


def test_the_figures_of_pairs_are_those_of_the_tables():
    """At the start win is 1/2 and KL 0; at the tilted policy KL and reward are its own; nobody exploits Nash."""
    task = find_task("pairs(prompts=4, cyclic=30)")
    net = Policy(*load_tiny("tiny-pairs"))
    texts = [net.decode((v,)) for v in range(len(net.tokenizer))]
    r, P = task.matrices(texts)
    start = torch.rand(4, len(texts), generator=torch.Generator().manual_seed(0)).double().softmax(1)
    same = task.exact(start, start, net)
    assert same["win"] == pytest.approx(0.5) and same["kl"] == pytest.approx(0, abs=1e-12)
    assert same["reward"] == pytest.approx(float((start * r).sum(1).mean())) and same["win_nash"] < 0.5
    best = maths.tilted(start, r, 0.5)
    found = task.exact(best, start, net)
    value = torch.logsumexp(start.log() + r / 0.5, 1) * 0.5  # E r - beta KL of the optimum is beta log Z
    assert found["reward"] - 0.5 * found["kl"] == pytest.approx(float(value.mean()))
    nash = torch.stack([maths.nash(each) for each in P])
    at_nash = task.exact(nash.clamp(min=1e-30), start, net)
    assert at_nash["exploitability"] == pytest.approx(0, abs=1e-9) and at_nash["win_nash"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "text", ["pairs(flips=50)", "pairs(prompts=0)", "pairs(prompts=9, test=8)", "pairs(cyclic=101)", "rm-lab(flips=-1)"]
)
def test_options_out_of_range(text):
    with pytest.raises(BadTask, match="give"):
        find_task(text)


def test_unknown_options():
    with pytest.raises(UnknownName, match="did you mean 'flips'"):
        find_task("rm-lab(flip=3)")


def test_the_shipped_model_of_rm_lab_writes_like_the_demonstrations():
    task, random = RMLab(), Random(0)
    problems = task.problems("test") * 8
    wanted = sum(task.score(problems, [task.demonstrate(p, random) for p in problems])) / len(problems)
    assert accuracy(*load_tiny("tiny-rm-lab"), task, task.problems("test"), samples=8) == pytest.approx(
        wanted, abs=0.05
    )


def test_the_shipped_model_of_pairs_says_every_response_about_equally_often():
    net, problems = Policy(*load_tiny("tiny-pairs")), BUILT_IN["pairs"](test=16).problems("test")
    hidden, _ = net.body.decode(net.encode_all([p.prompt for p in problems]), torch.arange(len(problems)), 1)
    p = net.logits(hidden).softmax(1)[:, torch.tensor(net.tokenizer(RESPONSES)["input_ids"])]
    assert p.sum(1).min() > 0.999 and p.min() > 1 / 24 and p.max() < 1 / 12
