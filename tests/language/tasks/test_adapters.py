"""Tasks from files, data sets and reasoning-gym."""

import json

import pytest

from frugal.core.errors import BadTask, UnknownName
from frugal.language.tasks.files import from_jsonl
from frugal.language.tasks.find import find_task
from frugal.language.tasks.reasoning import _answer

ROWS = [{"prompt": f"1+{i}=", "answer": str(1 + i)} for i in range(20)]


def write(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_jsonl_holds_out_a_tenth_and_passes_fields_by_name(tmp_path):
    seen = {}

    def reward(completions, answer, **rest):
        seen.update(rest, answer=answer)
        return [float(c == a) for c, a in zip(completions, answer, strict=True)]

    task = from_jsonl(write(tmp_path, ROWS), reward)
    train, test = task.problems("train"), task.problems("test")
    assert (len(train), len(test)) == (18, 2)
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    assert task.score(train[:2], [train[0].columns["answer"], "no"]) == [1.0, 0.0]
    assert seen["prompts"] == [train[0].prompt, train[1].prompt] and len(seen["answer"]) == 2


def test_a_reward_gets_only_the_fields_that_it_names(tmp_path):
    task = from_jsonl(write(tmp_path, ROWS), lambda completions: [0.5] * len(completions))
    assert task.score(task.problems("test"), ["a", "b"]) == [0.5, 0.5]


def test_a_split_in_the_file_is_kept(tmp_path):
    rows = [{**row, "split": "test" if i < 5 else "train"} for i, row in enumerate(ROWS)]
    task = from_jsonl(write(tmp_path, rows), len)
    assert [p.prompt for p in task.problems("test")] == [row["prompt"] for row in ROWS[:5]]
    assert len(task.problems("train")) == 15


def test_reasoning_gym():
    pytest.importorskip("reasoning_gym")
    task = find_task("reasoning:chain_sum(max_terms=3)")
    train, test = task.problems("train"), task.problems("test")
    assert len(test) == 128 and len(train) > 1000
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    right = [f"The answer is {p.reference}" for p in test]
    assert task.score(test, right) == [1.0] * 128
    assert sum(task.score(test, ["no idea"] * 128)) < 12  # reasoning-gym gives 0.01 for trying
    with pytest.raises(UnknownName, match="chain_sum"):
        find_task("reasoning:chain_sums").problems("train")
    with pytest.raises(BadTask, match="max_digit"):
        find_task("reasoning:products(max_digit=2)").problems("train")


@pytest.mark.parametrize(
    "text,reference,answer",
    [
        ("3 + 4 = 7", "7", "7"),
        ("It is 1,234.", "1234", "1234"),
        ("so -5", "-5", "-5"),
        ("", "7", ""),
        ("thinking\nBlue \n", "Blue", "Blue"),
    ],
)
def test_what_of_a_response_is_compared(text, reference, answer):
    assert _answer(text, reference) == answer


def test_own_task_of_the_readme_works(tmp_path):
    from pathlib import Path

    readme = (Path(__file__).parents[3] / "README.md").read_text()
    code = next(block for block in readme.split("```python\n")[1:] if block.startswith("# my_task.py")).split("```")[0]
    (tmp_path / "my_task.py").write_text(code)
    task = find_task(f"{tmp_path / 'my_task.py'}:MyTask")
    assert task.score(task.problems("test"), ["WIND", "hail"]) == [1.0, 0.0]
