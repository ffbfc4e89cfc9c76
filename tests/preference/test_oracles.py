"""Who labels: the task, its score, the user's function or command, a reward model."""

import sys

import pytest

import frugal
from frugal.core.errors import BadTask, RunFailed
from frugal.language.tasks.modchain import ModChain
from frugal.language.tasks.task import Problem
from frugal.preference.oracles import ByCommand, ByFunction, ByScore, Labelled, compare, find_oracle, oracle_of
from frugal.preference.tasks.find import find_task
from frugal.preference.tasks.rm_lab import RMLab
from tests.language.tinyrun import Letters
from tests.preference.tinyrun import Compared

PROBLEMS = [Problem("abc=", columns={"wish": "a"}), Problem("bcd=", columns={"wish": "b"})]


def test_by_score_the_better_one_wins_and_equals_cannot_be_told():
    assert ByScore(Letters())(PROBLEMS * 2, ["aa", "b", "a", "b"], ["a", "a", "a", "c"]) == [1.0, 0.0, None, None]


def test_the_tasks_own_word_comes_before_its_score():
    assert oracle_of(Compared()).__self__.name == "compared"
    assert isinstance(oracle_of(ModChain()), ByScore)
    assert oracle_of(Labelled(RMLab(), "someone")) == "someone"


def function(folder, body, signature="prompts, first, second, wish"):
    (folder / "labels.py").write_text(f"import os, time\ndef prefer({signature}):\n    {body}\n")
    return f"{folder / 'labels.py'}:prefer"


def test_a_function_of_the_user_is_called_with_lists_and_the_fields_that_it_names(tmp_path):
    ask = ByFunction(
        function(tmp_path, "return [float(w in a) if w in a + b else None for a, b, w in zip(first, second, wish)]")
    )
    assert ask(PROBLEMS, ["xa", "x"], ["y", "b"]) == [1.0, 0.0]
    assert ask(PROBLEMS, ["x", "x"], ["y", "b"]) == [None, 0.0]


def test_a_function_that_hangs_or_dies_costs_its_pair_only(tmp_path):
    hangs = ByFunction(function(tmp_path, "time.sleep(9 * ('slow' in first)); return [1.0] * len(first)"), seconds=1.0)
    task = Labelled(RMLab(), hangs)
    said = compare(task, PROBLEMS, ["slow", "a"], ["b", "b"])
    assert said[1] == 1.0 and type(said[0]).__name__ == "Failed"


def test_a_run_counts_what_failed(tmp_path):
    dies = function(
        tmp_path,
        "[os._exit(1) for a in first if a.count('a') > 1]; return [1.0] * len(first)",
        "prompts, first, second",
    )
    run = frugal.run(
        "online-dpo(prompts=8)", "rm-lab", label=dies, samples=16, evaluations=1, eval_problems=4, threads=1
    )
    spent = run.ledger
    assert spent.label_failures == spent.abstentions > 0
    assert sum(line["pairs"] for line in run.curve if line["kind"] == "train") == spent.labels - spent.abstentions


JUDGE = """
import json, sys
for line in sys.stdin:
    row = json.loads(line)
    if "crash" in row["first"]:
        sys.exit(3)
    print("null" if "unsure" in row["first"] else json.dumps(0.25 + ("a" in row["first"]) / 2))
"""


def test_a_command_reads_lines_and_writes_labels(tmp_path):
    (tmp_path / "judge.py").write_text(JUDGE)
    ask = find_oracle(f"command:{sys.executable} {tmp_path / 'judge.py'}")
    assert ask(PROBLEMS, ["a", "unsure"], ["b", "b"]) == [0.75, None]
    said = ask(PROBLEMS, ["crash", "a"], ["b", "b"])
    assert said[1] == 0.75 and type(said[0]).__name__ == "Failed"
    slow = ByCommand(f"{sys.executable} -c 'import time; time.sleep(9)'", seconds=0.5)
    assert [type(answer).__name__ for answer in slow(PROBLEMS, ["a", "a"], ["b", "b"])] == ["Failed"] * 2


def test_what_is_no_label_ends_the_run_in_words(tmp_path):
    words = find_oracle(f"command:{sys.executable} -c 'print(\"left\")'")
    with pytest.raises(RunFailed, match="said 'left' of 'a' against 'b'"):
        compare(Labelled(RMLab(), words), PROBLEMS[:1], ["a"], ["b"])
    with pytest.raises(BadTask, match="cannot be run"):
        ByCommand("no-such-program")(PROBLEMS[:1], ["a"], ["b"])


@pytest.mark.parametrize("label", ["someone", "command:", "model:", ".py"])
def test_an_oracle_that_is_none_says_what_there_is(label):
    with pytest.raises(BadTask, match=r"my_labels\.py:prefer, command:\.\.\. or model:folder"):
        find_oracle(label)


def test_a_task_without_an_oracle_is_refused_before_the_run(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "1", "chosen": "2", "rejected": "3"}\n' * 40)
    assert oracle_of(find_task(str(path))) is None
    with pytest.raises(BadTask, match="--label"):
        frugal.run("online-dpo", str(path), model="tiny-modchain", samples=4, max_tokens=4)
    with pytest.raises(BadTask, match="without a pair"):
        frugal.run("dpo", "modchain", samples=4)
