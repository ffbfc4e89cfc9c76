"""Pairs from files: what is read, and what is wrong with every row that cannot be."""

import json

import pytest

import frugal
from frugal.core.errors import BadModel, BadTask
from frugal.preference.tasks.find import find_task
from frugal.show import Watch
from tests.language.tinyrun import saved

GOOD = [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": str(i)} for i in range(10)]
TINY = {"model": "tiny-modchain", "samples": 8, "max_tokens": 4, "evaluations": 1, "threads": 1}
WRONG = {
    "not JSON": ("{'prompt': 1}", "not JSON"),
    "no object": ("[1]", "no object with the fields"),
    "no rejected": ({"prompt": "a", "chosen": "b"}, "no field 'rejected'"),
    "no prompt": ({"chosen": "a", "rejected": "b"}, "no field 'prompt'"),
    "empty prompt": ({"prompt": "", "chosen": "a", "rejected": "b"}, "the prompt is empty"),
    "odd prompt": ({"prompt": [1], "chosen": "a", "rejected": "b"}, "neither text nor a list of messages"),
    "empty side": ({"prompt": "a", "chosen": "  ", "rejected": "b"}, "chosen is empty"),
    "a number": ({"prompt": "a", "chosen": "b", "rejected": 3}, "rejected is neither text nor a message"),
    "identical": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
    "two messages": (
        {"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}] * 2, "rejected": "c"},
        "neither text nor one message",
    ),
}


def jsonl(folder, *rows):
    path = folder / "mine.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named_with_its_line(name, tmp_path):
    row, words = WRONG[name]
    with pytest.raises(BadTask, match="1 of 11 rows are no pairs") as error:
        find_task(jsonl(tmp_path, *GOOD[:3], row, *GOOD[3:]))
    assert f"line 4: {words}" in str(error.value) or ("line 4" in str(error.value) and words in str(error.value))


def test_all_wrong_rows_stand_in_one_message(tmp_path):
    bad = {"prompt": "a", "chosen": "b"}
    with pytest.raises(BadTask) as error:
        find_task(jsonl(tmp_path, *[bad, GOOD[0]] * 12))
    text = str(error.value)
    assert "12 of 24 rows" in text and "line 1:" in text and "line 19:" in text and "and 2 more" in text


def test_text_and_chats_are_read(tmp_path):
    chat = [{"role": "user", "content": "hi"}]
    sides = {side: [*chat, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    rows = [*GOOD, sides, {"prompt": chat, "chosen": sides["chosen"][1:], "rejected": "no"}]
    task = find_task(jsonl(tmp_path, *({**row, "split": "train"} for row in rows), {**GOOD[0], "split": "test"}))
    train, test = task.problems("train"), task.problems("test")
    assert (len(train), len(test)) == (12, 1)
    assert train[10].prompt == chat == train[11].prompt
    assert [train[10].columns[side] for side in sides] == ["chosen", "rejected"]
    assert [train[11].columns[side] for side in sides] == ["chosen", "no"]


def test_a_data_set_of_the_datasets_library(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    parts = {"train": datasets.Dataset.from_list(GOOD[:8]), "test": datasets.Dataset.from_list(GOOD[8:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    task = find_task(f"data:{tmp_path / 'saved'}")
    assert [len(task.problems(split)) for split in ("train", "test")] == [8, 2]
    assert task.problems("test")[0].columns["chosen"] == "9"
    (tmp_path / "plain").mkdir()
    jsonl(tmp_path / "plain", *GOOD, {"prompt": "a", "chosen": "b", "rejected": "b"})
    with pytest.raises(BadTask, match=r"row 10 of train: chosen and rejected are the same"):
        find_task(f"data:{tmp_path / 'plain'}")


def test_dpo_learns_from_a_file(tmp_path):
    run = frugal.run("dpo(prompts=4, lr=1e-3)", jsonl(tmp_path, *GOOD), **TINY)
    first, last = [line for line in run.curve if line["kind"] == "evaluation"]
    assert (first["accuracy"], first["kl"]) == (0.5, 0.0) and last["kl"] > 0
    assert "win" not in first and run.ledger.labels == 8


def test_responses_that_do_not_fit_are_refused_with_their_line(tmp_path):
    long = {"prompt": "1", "chosen": "123456", "rejected": "2"}
    with pytest.raises(BadTask, match=r"1 responses have more than 4 tokens, the first at line 3, the longest 6"):
        frugal.run("dpo(prompts=4)", jsonl(tmp_path, *GOOD[:2], long, *GOOD[2:]), **TINY)


def test_prompts_beyond_the_context_are_refused(tmp_path):
    rows = [{**row, "prompt": "1+" * 200 + str(i)} for i, row in enumerate(GOOD)]
    with pytest.raises(BadTask, match="context holds 128"):
        frugal.run("dpo(prompts=4)", jsonl(tmp_path, *rows), **TINY)


def test_a_reference_with_another_tokenizer_is_refused(tmp_path):
    other = saved(tmp_path / "other")
    with pytest.raises(BadModel, match=r"the reference .* has another tokenizer"):
        frugal.run(f"dpo(prompts=4, reference='{other}')", jsonl(tmp_path, *GOOD), **TINY)


def test_a_language_recipe_needs_a_verifier_for_pairs(tmp_path):
    with pytest.raises(BadTask, match="--reward"):
        frugal.run("grpo(prompts=4)", jsonl(tmp_path, *GOOD), **TINY)


def test_arms_on_pairs_that_nobody_else_compares_race_on_accuracy(tmp_path):
    options = {name: value for name, value in TINY.items() if name != "threads"}
    arms, out = ["dpo(prompts=4, lr=1e-3)", "reward-model(prompts=4, lr=1e-3)"], tmp_path / "cmp"
    with Watch() as bars:
        summary = frugal.compare(jsonl(tmp_path, *GOOD), arms, seeds=1, out=out, processes=1, watch=bars, **options)
    assert summary["metric"] == "held-out accuracy" and summary["unit"] == "labels"
    assert "reward against KL" not in (out / "report.html").read_text()
