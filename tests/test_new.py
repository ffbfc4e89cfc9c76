"""`frugal new` lays out files that run, with four places to fill in."""

import subprocess
import sys

import pytest

from frugal.core.errors import BadRun, UnknownName
from frugal.core.recipe import Patch
from frugal.core.text import from_file
from frugal.new import lay_out


def checkout(tmp_path):
    (tmp_path / "frugal" / "language" / "methods").mkdir(parents=True)
    return tmp_path


def test_four_places_and_a_test_that_runs(tmp_path):
    root = checkout(tmp_path)
    paths = lay_out("rover", "grpo", root)
    texts = "".join(path.read_text() for path in paths)
    assert [f"TODO {i}" in texts for i in range(1, 6)] == [True] * 4 + [False]
    assert "2509.24981" in texts and [path.suffix for path in paths] == [".py"] * 3
    for path in paths:
        compile(path.read_text(), str(path), "exec")
    made = from_file(f"{paths[0]}:rover")(strength=0.5)
    assert isinstance(made, Patch) and dict(made.args) == {"strength": 0.5}


def test_nothing_is_overwritten(tmp_path):
    root = checkout(tmp_path)
    first = lay_out("rover", "grpo", root)[0]
    first.write_text("mine")
    with pytest.raises(BadRun, match="already there"):
        lay_out("rover", "grpo", root)
    assert first.read_text() == "mine"


def test_bad_names_and_places(tmp_path):
    with pytest.raises(BadRun, match="no checkout"):
        lay_out("rover", "grpo", tmp_path)
    with pytest.raises(BadRun, match="lower-case"):
        lay_out("Ro ver", "grpo", checkout(tmp_path))
    with pytest.raises(UnknownName, match="grpo"):
        lay_out("rover", "grpoo", tmp_path)


def test_files_follow_the_format(tmp_path):
    paths = lay_out("rover", "grpo", checkout(tmp_path))
    command = [sys.executable, "-m", "ruff", "format", "--line-length", "120", "--check", *map(str, paths)]
    assert subprocess.run(command, capture_output=True).returncode == 0
