"""`frugal new` lays out files that run, with four places to fill in."""

import importlib.util
import subprocess
import sys

import pytest

from frugal.core.errors import BadRun, UnknownName
from frugal.core.recipe import Patch
from frugal.core.text import from_file
from frugal.new import lay_out
from frugal.registry import recipe


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


def test_a_method_of_control_lies_with_its_domain(tmp_path):
    (tmp_path / "frugal" / "control" / "methods").mkdir(parents=True)
    paths = lay_out("camel", "td3", tmp_path)
    assert [path.relative_to(tmp_path).parts[1] for path in paths] == ["control"] * 3
    made = from_file(f"{paths[0]}:camel")()
    assert made.domain == "control" and 'BASE = "td3"' in paths[0].read_text()
    recipe("td3") + made
    spec = importlib.util.spec_from_file_location("frugal.control.methods.camel", paths[0])
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        from_file(f"{paths[1]}:test_equation_by_hand")()
    finally:
        del sys.modules[spec.name]


@pytest.mark.parametrize("slug, base", [("reg-po", ""), ("robust-dpo", "dpo"), ("p3o", "rlhf")])
def test_a_method_of_preference_is_laid_out_for_its_loop(slug, base, tmp_path):
    (tmp_path / "frugal" / "preference" / "methods").mkdir(parents=True)
    paths, name = lay_out(slug, base, tmp_path), slug.replace("-", "_")
    assert [path.relative_to(tmp_path).parts[1] for path in paths] == ["preference"] * 3
    made = from_file(f"{paths[0]}:{name}")()
    recipe(base or "online-dpo") + made
    spec = importlib.util.spec_from_file_location(f"frugal.preference.methods.{name}", paths[0])
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        from_file(f"{paths[1]}:test_equation_by_hand")()
    finally:
        del sys.modules[spec.name]


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
    (tmp_path / "frugal" / "control" / "methods").mkdir(parents=True)
    paths = [*lay_out("rover", "grpo", checkout(tmp_path)), *lay_out("camel", "td3", tmp_path)]
    command = [sys.executable, "-m", "ruff", "format", "--line-length", "120", "--check", *map(str, paths)]
    assert subprocess.run(command, capture_output=True).returncode == 0
