"""Pitfall 14 with damaged files and full disks: the same bits, with a message, or one message that says what to do."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest

import frugal
from benchmarks import kills
from frugal.cli import main
from frugal.core.errors import BadRun
from tests.language.test_kills import tiny_job


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """(job, what it leaves behind undisturbed, a directory in which it was killed after its second checkpoint)"""
    job = tiny_job(tmp_path_factory.mktemp("damage"))
    kills.go_on(job)
    half = replace(job, out=job.out.with_name("half"))
    kills.attempt(half, spot="half of line of the curve", nth=7)
    assert sorted(os.listdir(half.out / "checkpoints")) == ["00000002", "00000004"]
    assert sorted(os.listdir(half.out / "completions")) == ["00000002.parquet", "00000004.parquet"]
    assert (half.out / "curve.jsonl").read_text()[-1] != "\n", "the last line is half written"
    return job, kills.left_behind(job.out), half.out


@pytest.fixture
def half(begun, tmp_path):
    """(job in a copy of the killed directory, what it should leave behind)"""
    job, wanted, killed = begun
    shutil.copytree(killed, tmp_path / "out")
    return replace(job, out=tmp_path / "out"), wanted


def flip(path, at=0.5):
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 1
    path.write_bytes(data)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def test_a_killed_run_that_nothing_damaged_resumes_without_a_word(half, capsys):
    job, wanted = half
    kills.go_on(job)
    assert kills.left_behind(job.out) == wanted and capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [flip, cut, empty, os.unlink])
@pytest.mark.parametrize("name", ["checkpoints/00000004/tensors.safetensors", "checkpoints/00000004/state.json"])
def test_a_damaged_checkpoint_means_the_one_before(half, capsys, name, damage):
    job, wanted = half
    damage(job.out / name)
    kills.go_on(job)
    assert "checkpoints/00000004 is damaged; going back to 00000002\n" in capsys.readouterr().out
    assert kills.left_behind(job.out) == wanted


@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_table_of_the_newest_checkpoint_is_made_again_from_the_one_before(half, capsys, damage):
    job, wanted = half
    damage(job.out / "completions" / "00000004.parquet")
    kills.go_on(job)
    assert "checkpoints/00000004 is damaged; going back to 00000002\n" in capsys.readouterr().out
    assert kills.left_behind(job.out) == wanted


@pytest.mark.parametrize("name,damage", [("00000002.parquet", flip), ("00000004.parquet", os.unlink)])
def test_a_table_that_is_lost_is_named_and_training_goes_on(half, capsys, name, damage):
    job, wanted = half
    damage(job.out / "completions" / name)
    kills.go_on(job)
    assert f"{name} is damaged or gone; training does not need it" in capsys.readouterr().out
    for lost in job.out.joinpath("completions").glob(name):
        lost.unlink()
    found = kills.left_behind(job.out)
    rounds = (0, 1) if name == "00000002.parquet" else (2, 3)
    left = [row for row in wanted["completions"] if row["round"] not in rounds]
    assert found == {**wanted, "completions": left}


def test_both_checkpoints_damaged_means_the_beginning(half, capsys):
    job, wanted = half
    flip(job.out / "checkpoints/00000004/tensors.safetensors"), cut(job.out / "checkpoints/00000002/state.json")
    kills.go_on(job)
    said = capsys.readouterr().out
    assert "00000004 is damaged; going back to 00000002\n" in said
    assert "00000002 is damaged; going back to the beginning\n" in said
    assert kills.left_behind(job.out) == wanted


def a_line_less(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize("damage", [lambda p: flip(p, 0.1), lambda p: flip(p, 0.0), cut, empty, a_line_less, os.unlink])
def test_a_damaged_curve_is_put_back_from_the_checkpoint(half, capsys, damage):
    job, wanted = half
    damage(job.out / "curve.jsonl")
    kills.go_on(job)
    assert "curve.jsonl is damaged; it is written again from the checkpoint" in capsys.readouterr().out
    assert kills.left_behind(job.out) == wanted


@pytest.mark.parametrize("damage", [flip, empty, os.unlink])
def test_a_damaged_ledger_is_written_again(half, damage):
    job, wanted = half
    damage(job.out / "ledger.json")
    kills.go_on(job)
    assert kills.left_behind(job.out) == wanted


def test_a_run_json_that_is_not_what_was_written_is_refused(half):
    job, wanted = half
    path = job.out / "run.json"
    written = path.read_text()
    path.write_text(written.replace('"seed": 3', '"seed": 7'))
    with pytest.raises(BadRun, match=r"run.json is not what was written when the run began.*put it back"):
        frugal.resume(job.out)
    cut(path)
    with pytest.raises(BadRun, match=r"run.json is damaged"):
        frugal.resume(job.out)
    path.unlink()
    with pytest.raises(BadRun, match=r"holds no run: there is no .*run.json; begin it with: frugal run"):
        frugal.resume(job.out)
    path.write_text(written)
    kills.go_on(job)
    assert kills.left_behind(job.out) == wanted


# -- full disks -----------------------------------------------------------------------------------------------


WRITES = (
    *("curve.jsonl", "line of the curve", "completions", "tensors.safetensors", "state.json", "ledger.json"),
    *("model.safetensors", "tokenizer.json"),
)


def no_space():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "frugal-test", path], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a disk needs root")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk):
    """Write until nothing more fits."""
    with open(disk / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def resume_by_command(job, monkeypatch, *contexts):
    """`frugal resume` within the contexts; what it exits with."""
    monkeypatch.setattr(sys, "argv", ["frugal", "resume", str(job.out)])
    with ExitStack() as stack:
        for context in (kills.checkpoints_every_other_round(), *contexts):
            stack.enter_context(context)
        try:
            main()
        except SystemExit as left:
            return left.code
    return 0


def fails_then_goes_on(job, wanted, monkeypatch, capsys, meeting, make_room=lambda: None):
    assert resume_by_command(job, monkeypatch, meeting) == 1
    said = capsys.readouterr().err
    assert f"error: cannot write to {job.out}: " in said and "No space left on device" in said
    assert f"earlier checkpoints are intact: make room, then: frugal resume {job.out}" in said
    assert "Traceback" not in said
    newest = sorted(os.listdir(job.out / "checkpoints"))[-2:]
    assert newest[-1] in ("00000004", "00000005") and not (job.out / "model").exists()
    make_room()
    assert resume_by_command(job, monkeypatch) == 0
    assert "damaged" not in capsys.readouterr().out
    assert kills.left_behind(job.out) == wanted


@pytest.mark.parametrize("what", WRITES)
def test_a_write_that_fails_half_way_loses_no_checkpoint(half, monkeypatch, capsys, what):
    job, wanted = half
    fails_then_goes_on(job, wanted, monkeypatch, capsys, kills.meeting(f"half of {what}", 1, no_space))


@pytest.mark.parametrize("what", [*WRITES[:-1], "model"])
def test_a_disk_that_is_really_full_loses_no_checkpoint(begun, disk, monkeypatch, capsys, what):
    job, wanted, killed = begun
    shutil.copytree(killed, disk / "out")
    full = kills.meeting(f"before {what}", 1, lambda: fill(disk))
    job = replace(job, out=disk / "out")
    fails_then_goes_on(job, wanted, monkeypatch, capsys, full, (disk / "filler").unlink)


def test_a_disk_that_is_full_at_the_start(begun, disk):
    job = replace(begun[0], out=disk / "out")
    fill(disk)
    with pytest.raises(BadRun, match=r"cannot write to the folder .*No space left on device"):
        kills.go_on(job)
    (disk / "filler").unlink()
    kills.go_on(job)
    assert kills.left_behind(job.out) == begun[1]
