"""What a method's page says is what its file and the algebra say."""

import inspect
from itertools import combinations

from frugal.atlas.method import all_methods, head, refusal
from frugal.registry import bases, find, methods

METHODS = all_methods()


def test_head_keeps_each_sections_own_layout():
    line, sections = head(
        """One line
        that goes on.

        Changes      a: x = 1
                       and 2
                     b: y
        Leans on     nothing
        """
    )
    assert line == "One line that goes on."
    assert sections == {"Changes": "a: x = 1\n  and 2\nb: y", "Leans on": "nothing"}


def test_every_built_method_has_a_head_and_its_options():
    assert METHODS.keys() == methods().keys() and len(METHODS) >= 6
    for slug, method in METHODS.items():
        assert {"Changes", "Source", "Leans on", "Experiment"} <= method.sections.keys(), slug
        assert [option.name for option in method.options] == list(inspect.signature(find(slug)).parameters)
    hot = METHODS["ead"].options[0]
    assert (hot.name, hot.kind, hot.default) == ("hot", "float", "1.2")


def test_pairs_are_symmetric_and_name_both_where_they_clash():
    for a, b in ((a, b) for a, b in combinations(METHODS, 2) if b in METHODS[a].beside):  # of one domain
        why = METHODS[a].beside[b]
        assert why == METHODS[b].beside[a]
        assert why is None or (a in why and b in why) or ("loop does not have" in why and (a in why or b in why))
    assert METHODS["ead"].beside["capo"] is None
    assert "way out: lp-reg(loose=False)" in METHODS["lp-reg"].beside["ngrpo"]


def test_bases_are_tried_one_by_one():
    assert list(METHODS["ead"].on) == [name for name, make in bases().items() if make().domain.name == "language"]
    assert METHODS["ead"].on["grpo"] is None
    assert "makes act.temperature dead" in METHODS["ead"].on["sft"]
    assert "leans on a recipe that compares a group's rewards" in METHODS["ngrpo"].on["ppo"]


def test_a_combination_that_goes_on_one_base_goes():
    assert refusal(["sft", "grpo"], ["ead"]) is None
    assert refusal(["sft"], ["ead"]) == METHODS["ead"].on["sft"]
