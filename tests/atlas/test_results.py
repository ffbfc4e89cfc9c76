"""Results are read tolerantly, and a damaged file is named."""

import json

import pytest

from frugal.atlas.results import BadResult, combined, read, read_all
from tests.atlas import samples


def test_reads_what_was_written(tmp_path):
    assert read_all(samples.write(tmp_path)) == samples.ALL


def test_no_folder_holds_no_results(tmp_path):
    assert read_all(tmp_path / "nothing") == {}


def test_nothing_but_the_recipes_is_required(tmp_path):
    path = samples.write(tmp_path, {"ead": {"arms": [{"recipe": "grpo"}]}}) / "language" / "ead.json"
    assert read(path) == {"arms": [{"recipe": "grpo"}]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ("[1]", "the file is '[1]', not dict"),
        ('{"arms": {}}', "arms is '{}', not list"),
        ('{"arms": [{}]}', "arms[0].recipe is 'None', not str"),
        ('{"arms": [{"recipe": "grpo", "final": 3}]}', "arms[0].final is '3', not list"),
        ('{"grid": [0, 1], "arms": [{"recipe": "grpo", "curves": [[0.1]]}]}', "differ in length"),
        ('{"grid": [0], "arms": [{"recipe": "grpo", "curves": [["x"]]}]}', "'x', not a number"),
        ('{"statistics": "none"}', "statistics is 'none', not dict"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason_and_the_way_out(tmp_path, text, words):
    path = tmp_path / "ead.json"
    path.write_text(text)
    with pytest.raises(BadResult) as raised:
        read(path)
    assert str(path) in str(raised.value) and words in str(raised.value)
    assert str(raised.value).endswith("frugal prove ead")


def test_combined_are_the_methods_of_the_judged_recipe():
    assert combined(samples.ALL["ead"]) == ["ead"]
    assert combined(samples.ALL["ead-and-capo"]) == ["capo", "ead"]
    for judged, expected in {"sft:100 then grpo+ead": ["ead"], "grpo": [], "grpo+a-method-of-yesterday": []}.items():
        arms = [{"recipe": recipe} for recipe in ("grpo", judged, "grpo+lp-reg+remax")]
        assert combined({"arms": arms}) == expected
    assert combined({}) == combined({"arms": []}) == []


def test_samples_are_json():
    assert json.loads(json.dumps(samples.ALL)) == samples.ALL
