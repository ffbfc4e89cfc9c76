"""The built-in tasks: pools, verifiers, demonstrations, tokenizers and shipped models."""

from __future__ import annotations

from random import Random

import pytest
import torch

from frugal.core.errors import BadTask, UnknownName
from frugal.language.tasks import BUILT_IN, Problem, Task, built_in
from frugal.language.tasks.cipher import CODE
from frugal.language.tasks.countdown import value
from frugal.language.tasks.find import find_task
from frugal.language.tasks.modchain import ModChain, trace
from frugal.language.tiny import TEACHERS, accuracy, character_tokenizer, load_tiny, metadata, warm_start

NAMES = ["addtrace", "cipher", "countdown", "modchain", "overthink", "two-mode"]
CHAIN = Problem("7+5*2=", "7")
CASES = {  # problem, right completions, wrong or malformed ones
    "modchain": (
        Problem("7*3+5*2=", "1"),
        ["1+5*2=1+0=1", "7*3+0=1+0=1", "anything=1"],
        ["1+5*2=6*2=2", "1", "1+5*2=1+0=", "1+5*2=1+0=1 ", "1+5*2=1+0=01", "=1=2", "", "=\u0661", "\x00" * 9],
    ),
    "addtrace": (
        Problem("48,75=", "132"),
        ["2131=132", "=132"],
        ["2130=32", "2131=0132", "2131=132=", "132", "2131", "=-132", "=132.0", "", "=\uff11\uff13\uff12"],
    ),
    "countdown": (
        Problem("3,7,2>13:", ((2, 3, 7), 13)),
        ["c7+2*3", "g2*3+7", "a7+3*2", "g3*2+7"],
        ["7+2*3", "c7+2+2+2", "c7+3*3-3", "c6+7", "c13", "c(7+2*3)", "c7+2**3", "c7+2*3 ", "c-1+14", "c7+", "", "c",
         "c__import__('os')", "c7+2*\u0663", "c" + "9*" * 500 + "9", "j7+2*3", "c7+2*3=13"],
    ),
    "cipher": (
        Problem("kambqtce=", "63116670"),
        ["63116670=63116670", "=63116670", "00000000=63116670"],
        ["63116670", "63116670=", "63116670=6311667", "63116670=63116670 ", "=63116670=", "=63116671", "",
         "=6311667\u0661"],
    ),
    "two-mode": (
        CHAIN,
        ["!7", "?7+0=7!7", "?7+0...=7..!7", "!4!7"],
        ["7", "?7+0=7", "!77", "!", "!7.", "?7+0=7!4", "", "!7!", "!\u0667"],
    ),
}  # fmt: skip
CASES["overthink"] = CASES["two-mode"]


@pytest.fixture(params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return built_in(request.param)


def test_names() -> None:
    assert sorted(BUILT_IN) == NAMES == sorted(CASES)
    with pytest.raises(UnknownName, match="did you mean 'modchain'"):
        built_in("modchains")
    with pytest.raises(UnknownName, match="tiny-modchain"):
        load_tiny("tiny-modchian")


def test_pools(task: Task) -> None:
    train, test = task.problems("train"), task.problems("test")
    assert isinstance(task, Task)
    assert (len(train), len(test)) == (4096, 256)
    assert {p.prompt for p in train}.isdisjoint(p.prompt for p in test)
    assert len({p.prompt for p in test}) == 256
    assert len({p.difficulty for p in test}) >= 3
    fresh = type(task)(seed=1)
    assert fresh.problems("test") != test
    type(task).problems.__globals__["_pools"].cache_clear()
    assert task.problems("train") == train and task.problems("test") == test


def test_words_with_many_unknown_letters() -> None:
    """Each is right in 35% of the demonstrations: 0.35^7 and 0.35^8, so about 1.8 of 4096 are."""
    task, random = find_task("cipher(unknown=7)"), Random(0)
    pool = task.problems("train")
    assert [sum(p.difficulty == n for p in pool) for n in (7, 8)] == [2048, 2048]
    for problem in pool[::100]:
        assert sum(letter in "klmnopqrst" for letter in problem.prompt) == problem.difficulty
    assert sum(task.score(pool, [task.demonstrate(p, random) for p in pool])) < 10
    assert all(right != wrong for right, wrong in CODE.values()) and len(CODE) == 20


@pytest.mark.parametrize("name", ["addtrace", "cipher", "modchain"])
def test_solutions_lead_to_the_answer(name: str) -> None:
    """With the answer behind it a solution is right; alone it is no response."""
    task = built_in(name)
    pool = task.problems("test")
    assert set(task.score(pool, [f"{p.columns['solution']}={p.reference}" for p in pool])) == {1.0}
    assert set(task.score(pool, [p.columns["solution"] for p in pool])) == {0.0}


def test_options() -> None:
    assert find_task("modchain(operands=5, seed=1)") == ModChain(operands=5, seed=1)
    with pytest.raises(UnknownName, match="digits"):
        find_task("addtrace(digit=4)")
    with pytest.raises(BadTask, match="whole number"):
        find_task("addtrace(digits='four')")
    with pytest.raises(BadTask, match="1 to 8"):
        find_task("cipher(unknown=9)")


def test_long_sums_are_as_rare_as_their_tail_says() -> None:
    """Shares 1, 1/2, ..., 1/6 of a harmonic sum of 2.45, in both splits, of which no problem is in both."""
    task = find_task("addtrace(tail=1)")
    train, test = task.problems("train"), task.problems("test")
    for pool in (train, test):
        lengths = [p.difficulty for p in pool]
        assert [lengths.count(d) / len(pool) for d in range(1, 7)] == pytest.approx(
            [1 / d / 2.45 for d in range(1, 7)], abs=0.005
        )
    assert {p.prompt for p in train}.isdisjoint(p.prompt for p in test)


def test_countdown_holds_out_every_order_of_its_test_numbers() -> None:
    task = built_in("countdown")
    assert {p.reference for p in task.problems("train")}.isdisjoint(p.reference for p in task.problems("test"))


@pytest.mark.parametrize("name", NAMES)
def test_score(name: str) -> None:
    problem, right, wrong = CASES[name]
    texts = right + wrong
    assert built_in(name).score([problem] * len(texts), texts) == [1.0] * len(right) + [0.0] * len(wrong)


def test_values_by_hand() -> None:
    assert trace("7*3+5*2") == ["1+5*2", "1+0", "1"]
    assert trace("7+3*5", "left to right") == ["0*5", "0"]
    assert trace("7+3*5+2*2", "right to left") == ["7+3*5+4", "7+3*9", "7+7", "4"]
    assert trace("7*3+5*2", "sums first") == ["7*8*2", "6*2", "2"]
    assert [value(text) for text in ("2-3*4", "2*3-4", "9-1-2", "12")] == [-10, 2, 6, 12]


# The share of right demonstrations is part of each task's design; 4096 draws leave a standard error below 0.008.
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("addtrace", 0.458),
        ("cipher", 0.067),
        ("countdown", 0.6),
        ("modchain", 0.46),
        ("overthink", 1.0),
        ("two-mode", 1.0),
    ],
)
def test_demonstrations(name: str, share: float) -> None:
    task, random = built_in(name), Random(0)
    pool = task.problems("train")
    texts = [task.demonstrate(problem, random) for problem in pool]
    assert sum(task.score(pool, texts)) / len(pool) == pytest.approx(share, abs=0.03)
    assert task.max_tokens - 3 <= max(map(len, texts)) + 1 <= task.max_tokens <= 40
    assert set("".join(texts)) | set("".join(p.prompt for p in pool)) == set(task.alphabet)


def test_demonstrations_are_right_where_they_mean_to_be() -> None:
    random = Random(0)
    for name, meant in {"addtrace": lambda p, text: p.difficulty <= 2, "two-mode": lambda p, text: True}.items():
        task = built_in(name)
        pairs = [(p, text) for p in task.problems("train") if meant(p, text := task.demonstrate(p, random))]
        assert len(pairs) > 1000
        assert set(task.score(*zip(*pairs, strict=True))) == {1.0}
    chains = built_in("modchain").problems("train")
    assert set(built_in("modchain").score(chains, ["=".join(trace(p.prompt[:-1])) for p in chains])) == {1.0}


def test_overthink_thinks_twice_as_long_as_needed() -> None:
    """Three quarters think, two thirds of these with filler; the limit is twice the longest bare trace."""
    task, random = built_in("overthink"), Random(0)
    texts = [task.demonstrate(problem, random) for problem in task.problems("train")]
    shares = [sum(map(kind, texts)) / len(texts) for kind in (lambda t: t[0] == "!", lambda t: "." in t)]
    assert shares == pytest.approx([0.25, 0.5], abs=0.03)
    bare = [len(t) + 1 for t in texts if "." not in t]  # and its end
    assert task.max_tokens == 2 * max(bare) == 30


def test_tokenizer(task: Task, tmp_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = character_tokenizer(task.alphabet)
    tokenizer.save_pretrained(tmp_path)
    problem = task.problems("test")[0]
    text = problem.prompt + task.demonstrate(problem, Random(0)) + task.alphabet
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = one.encode(text)
        assert len(ids) == len(text)
        assert one.decode(ids) == text
        assert one.decode([*ids, one.eos_token_id, one.pad_token_id], skip_special_tokens=True) == text
        assert {one.pad_token_id, one.eos_token_id}.isdisjoint(ids)
        assert one.pad_token_id != one.eos_token_id
        assert one.padding_side == "left"


def test_shipped_model(task: Task) -> None:
    model, tokenizer = load_tiny(task.model)
    facts = metadata(task.name)
    assert facts["task"] == task.name and {"steps", "seed", "sampled", "greedy", "torch"} <= set(facts)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert 300_000 < sum(p.numel() for p in model.parameters()) < 400_000
    # Greedy decoding has no noise but the rounding of another machine, which flips few of 256 answers.
    assert accuracy(model, tokenizer, task, task.problems("test")) == pytest.approx(facts["greedy"], abs=0.03)
    # 256 problems x 2 samples have a standard error below 0.02.
    sampled = accuracy(model, tokenizer, task, task.problems("test"), 2, seed=1)
    assert sampled == pytest.approx(facts["sampled"], abs=0.06)


@pytest.mark.parametrize("name", TEACHERS)
def test_shipped_teacher(name: str) -> None:
    """Trained further than the task's model, and not perfect."""
    facts, (model, tokenizer) = metadata(name), load_tiny(name)
    task = built_in(facts["task"])
    assert metadata(task.name)["sampled"] + 0.2 < facts["sampled"] < 0.9 and facts["samples"] == TEACHERS[name]
    assert accuracy(model, tokenizer, task, task.problems("test")) == pytest.approx(facts["greedy"], abs=0.03)


def test_accuracy_leaves_the_global_generator_alone() -> None:
    task = built_in("modchain")
    model, tokenizer = load_tiny("modchain")
    before = torch.get_rng_state()
    accuracy(model, tokenizer, task, task.problems("test")[:2], samples=1)
    assert torch.equal(before, torch.get_rng_state())


def test_warm_start_is_deterministic(task: Task) -> None:
    (one, _), (two, _), (other, _) = (warm_start(task, 5, seed=seed) for seed in (3, 3, 4))
    pairs = list(zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
