"""The catalogue is complete, its cards are well formed, and it opens without anything heavy."""

import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml

from frugal.catalogue import index
from frugal.core.errors import UnknownName
from frugal.core.recipe import QUESTIONS

COUNTS = {
    "agents": 18,
    "control": 44,
    "design": 15,
    "diffusion": 12,
    "incontext": 4,
    "language": 63,
    "multiagent": 5,
    "offline": 18,
    "preference": 17,
    "tabular": 14,
    "vision_language": 27,
    "world_models": 11,
}
FIELDS = ["slug", "title", "year", "arxiv", "kind", "changes", "idea", "headline"]
FILES = sorted(index.CARDS.glob("*.yaml"))


def rows(path):
    return yaml.load(path.read_bytes(), index.LOADER)


def test_every_family_is_complete():
    assert Counter(card.family for card in index.cards().values()) == COUNTS
    assert len(index.cards()) == 248


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_sorted_and_have_the_fields_in_order(path):
    slugs = [row["slug"] for row in rows(path)]
    assert slugs == sorted(slugs)
    assert all(list(row) == FIELDS for row in rows(path))


def test_slugs_are_unique_and_can_name_a_python_file():
    slugs = [row["slug"] for path in FILES for row in rows(path)]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug) for slug in slugs)


@pytest.mark.parametrize("card", index.cards().values(), ids=lambda card: card.slug)
def test_card_is_well_formed(card):
    assert card.title.strip() and card.headline.strip()
    assert 2015 <= card.year <= 2030
    assert card.arxiv is None or re.fullmatch(r"\d{4}\.\d{5}", card.arxiv)
    assert card.kind in index.KINDS
    assert list(card.changes) == [question for question in QUESTIONS if question in card.changes]
    assert card.changes or card.kind == "survey"
    assert card.idea.endswith(".") and ". " not in card.idea
    assert len(card.idea.split()) <= 45


def test_find_returns_the_card():
    card = index.find("capo")
    assert (card.family, card.kind, card.changes) == ("language", "method", ("update",))


def test_select_combines_its_conditions():
    assert len(index.select()) == 248
    assert len(index.select(family="language")) == 63
    chosen = index.select(family="control", changes="credit", kind="method")
    assert chosen
    assert {(card.family, card.kind) for card in chosen} == {("control", "method")}
    assert all("credit" in card.changes for card in chosen)
    assert len(index.select(built=True)) + len(index.select(built=False)) == 248


@pytest.mark.parametrize(
    ("call", "suggestion"),
    [
        (lambda: index.find("cap0"), "'capo'"),
        (lambda: index.select(family="languages"), "'language'"),
        (lambda: index.select(changes="credits"), "'credit'"),
        (lambda: index.select(kind="methods"), "'method'"),
    ],
)
def test_unknown_names_suggest_the_nearest(call, suggestion):
    with pytest.raises(UnknownName, match=suggestion):
        call()


def test_a_method_file_makes_a_card_built_and_a_result_gives_its_verdict(tmp_path, monkeypatch):
    package, results = tmp_path / "frugal", tmp_path / "results"
    monkeypatch.setattr(index, "PACKAGE", package)
    monkeypatch.setattr(index, "RESULTS", results)
    (package / "language" / "methods").mkdir(parents=True)
    (package / "language" / "methods" / "d3s.py").touch()
    (package / "language" / "methods" / "lite_ppo.py").touch()
    (results / "language").mkdir(parents=True)
    (results / "language" / "lite-ppo.json").write_text('{"verdict": "holds"}')
    assert [card.slug for card in index.select(built=True)] == ["d3s", "lite-ppo"]
    assert (index.find("d3s").status, index.find("d3s").verdict) == ("built", None)
    assert (index.find("lite-ppo").domain, index.find("lite-ppo").verdict) == ("language", "holds")
    assert (index.find("capo").status, index.find("capo").verdict) == ("planned", None)


def test_rows_have_exactly_the_table_columns_and_survive_json():
    expected = ["slug", "title", "year", "arxiv", "family", "kind", "changes", "status", "verdict"]
    for card in index.cards().values():
        row = index.as_row(card)
        assert list(row) == expected
        assert json.loads(json.dumps(row)) == row


def test_the_index_loads_nothing_heavy():
    code = """
import sys
from frugal.catalogue import index
index.cards(); index.select(built=True)
print(sorted({"torch", "transformers", "numpy", "scipy", "gymnasium"} & set(sys.modules)))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
