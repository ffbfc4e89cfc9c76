"""A reward function that hangs, crashes, prints or raises."""

import inspect
import os

import pytest

import frugal
from frugal.core.errors import RunFailed
from frugal.language.tasks.watched import Failed, Raised, Watched

FILE = """
import os, sys, time
calls = 0

def score(completions, answer):
    global calls
    calls += 1
    print("not an answer")
    for text in completions:
        if text == "hang":
            time.sleep(600)
        if text == "crash":
            os.abort()
        if text == "exit":
            sys.exit(0)
        if text == "raise":
            raise ValueError("no")
    return [float(text == a) for text, a in zip(completions, answer)]

def count(completions):
    global calls
    calls += 1
    return [calls] * len(completions)

def odd(completions):
    return [float("nan"), None, "high", object()]
"""


@pytest.fixture
def watched(tmp_path):
    (tmp_path / "reward.py").write_text(FILE)
    return lambda name, seconds=60.0: Watched(f"{tmp_path / 'reward.py'}:{name}", seconds)


def test_scores_are_the_functions_and_its_process_stays(watched):
    reward = watched("score")
    assert list(inspect.signature(reward).parameters) == ["completions", "answer"]
    assert reward(completions=["a", "b"], answer=["a", "a"]) == [1.0, 0.0]
    count = watched("count")
    assert [count(completions=["x"])[0] for _ in range(3)] == [1, 2, 3], "a file is loaded once"


@pytest.mark.parametrize("word", ["crash", "exit"])
def test_what_crashes_costs_one_score(watched, word):
    reward = watched("score")
    scores = reward(completions=["a", word, "a"], answer=["a", "a", "b"])
    assert scores == [1.0, 0.0, 0.0] and [isinstance(s, Failed) for s in scores] == [False, True, False]
    assert reward(completions=["a"], answer=["a"]) == [1.0], "and the next batch finds a new process"


def test_what_hangs_is_stopped(watched):
    reward = watched("score", seconds=5.0)
    process = reward._started()
    scores = reward(completions=["hang", "a"], answer=["a", "a"])
    assert scores == [0.0, 1.0] and isinstance(scores[0], Failed)
    assert process.poll() is not None and not os.path.exists(f"/proc/{process.pid}")


def test_an_exception_is_told(watched):
    with pytest.raises(Raised, match="ValueError: no"):
        watched("score")(completions=["raise"], answer=["a"])


def test_what_is_no_number_reaches_the_run(watched):
    nan, none, text, thing = watched("odd")(completions=["x"] * 4)
    assert nan != nan and none is None and text == "high" and thing.startswith("<object")


def run(tmp_path, body):
    """A run on a task from files, whose reward is this function's body."""
    (tmp_path / "reward.py").write_text(f"import os\n\ndef score(completions):\n    {body}\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "07="}\n' * 8)
    reward = f"{tmp_path / 'reward.py'}:score"
    options = {"model": "tiny-addtrace", "reward": reward, "max_tokens": 2, "evaluations": 1}
    return frugal.run("grpo(prompts=2, group=4)", str(tmp_path / "p.jsonl"), samples=8, **options)


def test_failures_stand_in_the_ledger(tmp_path):
    ledger = run(tmp_path, "os.abort()").ledger
    assert ledger.verifier_failures == ledger.verifier_calls == 8
    assert ledger.evaluation.verifier_failures == ledger.evaluation.verifier_calls > 0


def test_a_reward_that_raises_ends_the_run_with_its_words(tmp_path):
    with pytest.raises(RunFailed, match="the reward of p raised KeyError: 'field'; the first completion"):
        run(tmp_path, "raise KeyError('field')")
