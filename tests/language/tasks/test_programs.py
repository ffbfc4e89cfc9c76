"""The reward for programs."""

import json

import pytest

from frugal.core.errors import BadTask
from frugal.language.tasks.find import find_task
from frugal.language.tasks.programs import check, code

ASSERTS = ["assert double(2) == 4", "assert double('a') == 'aa'"]
PAIRS = [{"input": "1\n2\n", "output": "3\n"}, {"input": "5\n5\n", "output": "10"}]

pytestmark = pytest.mark.usefixtures("namespaces")


@pytest.mark.parametrize(
    "completion,score",
    [
        ("def double(x):\n    return x + x", 1.0),
        ("It is short:\n```python\ndef double(x):\n    return x * 2\n```\nas asked.", 1.0),
        ("```\nwrong\n```\nNo:\n```py\ndouble = lambda x: 2 * x", 1.0),
        ("def double(x):\n    return 4", 0.0),
        ("def double(x):\n    return x + x\nprint = None", 1.0),
        ("exit()", 0.0),
        ("import os\nos._exit(0)", 0.0),
        ("import atexit, os\natexit.register(os._exit, 0)", 0.0),
        ("if False:", 0.0),
        ("'''", 0.0),
        ("", 0.0),
        ("Certainly!", 0.0),
    ],
)
def test_statements(completion, score):
    assert code([completion, completion], [ASSERTS, "\n".join(ASSERTS)]) == [score, score]


@pytest.mark.parametrize(
    "completion,score",
    [
        ("print(int(input()) + int(input()))", 1.0),
        ("import sys\nprint(sum(map(int, sys.stdin)), ' ')\nprint()", 1.0),
        ("print(3)", 0.0),
        ("print(int(input()) + int(input()))\n1 / 0", 0.0),
        ("print('', int(input()) + int(input()))", 0.0),
    ],
)
def test_input_and_output(completion, score):
    assert code([completion], [PAIRS]) == [score]


def test_each_completion_meets_the_tests_of_its_own_row():
    programs = [f"x = {i}" for i in range(20)]
    assert code(programs, [f"assert x == {i // 2 * 2}" for i in range(20)]) == [1.0, 0.0] * 10


@pytest.mark.parametrize(
    "tests", [None, [], 3, [3], ["assert 1", PAIRS[0]], [{"input": "1"}], [{**PAIRS[0], "output": 3}]]
)
def test_tests_that_cannot_be_read_are_told_before_the_run(tests):
    with pytest.raises(BadTask, match="one row has"):
        check([{"prompt": "a", "tests": ASSERTS}, {"prompt": "b", "tests": tests}])


def test_by_name_from_a_file(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"prompt": f"A function double ({i})", "tests": ASSERTS} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = find_task(str(path), "code")
    assert task.score(task.problems("train")[:2], ["def double(x): return x + x", "pass"]) == [1.0, 0.0]
    path.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    with pytest.raises(BadTask, match='"tests"'):
        find_task(str(path), "code")
