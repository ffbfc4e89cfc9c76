"""Recipes as text: what is printed can be read, and what cannot be read is pointed at."""

import contextlib
import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugal.core.errors import BadRecipe, Clash, FrugalError, UnknownName
from frugal.core.recipe import Patch
from frugal.core.schedule import cosine, linear, wave
from frugal.language import capo, dr_grpo, ead, grpo, lp_reg, online_difficulty
from frugal.registry import bases, recipe


def pointed_at(text):
    """(the words under the carets, the message) of the error that reading `text` raises."""
    with pytest.raises(BadRecipe) as caught:
        recipe(text)
    why, shown, carets = str(caught.value).rsplit("\n", 2)
    assert shown == "  " + text and set(carets) == {" ", "^"}
    start = carets.index("^")
    return shown[start : len(carets)], why


# -- reading and printing -------------------------------------------------------------------------------------


def test_every_base_reads_and_prints():
    assert len(bases()) >= 9
    for name, make in bases().items():
        assert recipe(name) == make() and str(make()) == name
        assert recipe(f" {name}( ) ") == make()


METHODS = ("ead", "lp-reg(loose=False)", "capo(policy=0.5, top_k=8)", "ngrpo(asymmetric=False, filter=False)")
SUMS = [f"{base}+{a}+{b}" for base in ("grpo", "dr-grpo(lr=linear(0.1, 0.0))") for a, b in combinations(METHODS, 2)]


@pytest.mark.parametrize("text", SUMS)
def test_combinations_print_as_what_they_were_read_from(text):
    base, *patches = text.split("+")
    assert str(recipe(text)) == "+".join([base, *sorted(patches)])
    assert recipe(str(recipe(text))) == recipe(text) == recipe("+".join([base, *reversed(patches)]))


def test_text_and_python_give_the_same_value():
    assert recipe("grpo(clip=0.3, group=4)+ead(hot=1.3, cap=None)") == grpo(clip=0.3, group=4) + ead(hot=1.3, cap=None)
    assert recipe("dr-grpo(unit='turn')") == recipe('dr-grpo(unit="turn")') == dr_grpo(unit="turn")
    assert recipe("grpo(lr=linear(1e-4, 0))") == grpo(lr=linear(1e-4, 0))
    assert recipe("grpo(lr=linear(end=0, start=1e-4))") == grpo(lr=linear(1e-4, 0))
    assert recipe("grpo + capo(policy=inf)\n") == grpo() + capo(policy=math.inf)


def test_a_plus_inside_an_option_is_not_a_sum():
    assert recipe("grpo(lr=1e+0)") == grpo(lr=1.0)
    with pytest.raises(BadRecipe, match=r"unit='a\+b\)'; choose from token, turn, rollout"):
        recipe("grpo(unit='a+b)')")


number = st.floats(0.01, 100, allow_nan=False)
schedules = (
    st.builds(linear, number, number) | st.builds(cosine, number, number) | st.builds(wave, number, number, number)
)
base_settings = st.fixed_dictionaries(
    {},
    optional={
        "group": st.integers(1, 64),
        "lr": number | schedules | st.none(),
        "temperature": number | schedules,
        "unit": st.sampled_from(["token", "turn", "rollout"]),
    },
)
heads = st.fixed_dictionaries(
    {},
    optional={"cold": st.floats(1e-9, 1.0), "horizon": st.floats(1e-300, math.inf, exclude_min=True), "cap": st.none()},
).map(lambda options: ead(**options, hot=1.5))
protections = st.fixed_dictionaries(
    {},
    optional={"kappa": st.floats(0, 0.99), "beta": st.floats(0, math.inf), "loose": st.booleans()},
).map(lambda options: lp_reg(**options))
masks = st.fixed_dictionaries(
    {},
).map(lambda options: capo(**options))


@settings(deadline=None)
@given(base_settings, st.none() | heads, st.none() | protections, st.none() | masks)
def test_what_is_printed_reads_back_equal(options, head, protection, mask):
    made = sum((patch for patch in (head, protection, mask) if patch is not None), grpo(**options))
    again = recipe(str(made))
    assert again == made and str(again) == str(made) and hash(again) == hash(made)


# -- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, wrong, why",
    [
        ("grpo+aed", "aed", "did you mean 'ead'?"),
        ("gpro+ead", "gpro", "did you mean 'grpo'?"),
        ("grpo+ead+ea", "ea", "did you mean 'ead'?"),  # and not the first letters of ead
        ("grpo+ead(o=1)", "o", "did you mean 'hot'?"),  # and not the o of grpo
        ("grpo+ead(hot=1.3, colt=2)", "colt", "did you mean 'cold'?"),
        ("grpo(hott=1)+ead(hot=1)", "hott", "unknown option of grpo"),
        ("grpo(gruop=4)", "gruop", "did you mean 'group'?"),
        ("grpo+ead(1.3)", "1.3", "options are given by name"),
        ("grpo+ead(hot=o)", "o", "is not a number"),
        ("grpo+ead(hot=hot(1.3))", "hot(1.3)", "linear"),
        ("grpo(clip={[]: 1})", "{[]: 1}", "is not a number"),
        ("grpo(lr=linear(1e-4))", "linear(1e-4)", "a start and an end"),
        ("grpo(lr=linear(1e-4, 0, end=0))", "linear(1e-4, 0, end=0)", "a start and an end"),
        ("grpo(lr=linear(a, 0))", "a", "is not a number"),
        ("grpo+ead(hot=1.1, hot=1.3)", "hot=1.3", "given once"),
        ("grpo(clip=0.3)(lr=0.1)", "clip=0.3)(lr=0.1", "cannot be read"),
        ("grpo+ead(hot=)", "hot=", "cannot be read"),
        ("grpo+ead hot", "ead hot", "unknown"),
        ("grpo+ead(hot=1)x", "ead(hot=1)x", "expected name"),
        ("grpo+ead(hot='warm')", "ead(hot='warm')", "cannot take these options"),
        ("ead+grpo", "ead", "a recipe begins with a base"),
        ("grpo+ead+ppo(group=4)", "ppo(group=4)", "two bases, grpo and ppo; keep one"),
        ("grpo+grpo", "grpo", "two bases"),
    ],
)
def test_an_error_points_at_the_wrong_word(text, wrong, why):
    assert pointed_at(text)[0] == wrong
    assert why in pointed_at(text)[1]


def test_the_second_of_two_equal_words_is_pointed_at():
    with pytest.raises(BadRecipe) as caught:
        recipe("grpo+grpo")
    assert str(caught.value).endswith("\n       ^^^^")


@pytest.mark.parametrize("text", ["grpo+ead(hot=1.3", "grpo+ead hot=1.3)", "grpo(unit='turn)", "((grpo)"])
def test_an_unclosed_parenthesis_or_quote(text):
    with pytest.raises(BadRecipe, match="is not closed") as caught:
        recipe(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", "grpo+", "+grpo", "grpo++ead", "grpo+ +ead"])
def test_an_empty_term(text):
    with pytest.raises(BadRecipe, match=r"nothing stands beside a '\+'"):
        recipe(text)


def test_clashes_pass_through():
    with pytest.raises(Clash, match=r"lp-reg and ngrpo clash at learn\.clip\.high"):
        recipe("grpo+ngrpo+lp-reg")


@settings(deadline=None)
@given(st.text("grpoead+(),=1.'[]{}\" x:*", max_size=25))
def test_no_text_ends_in_anything_but_a_recipe_or_our_own_error(text):
    with contextlib.suppress(FrugalError):
        recipe("grpo" + text)


# -- a user's own file ----------------------------------------------------------------------------------------

OWN = """
from __future__ import annotations

from dataclasses import dataclass

from frugal.core.recipe import Patch, base, patch
from frugal.language.recipes import PLAIN
from frugal.language.parts import Clip, GroupRelative, PPOClip
from frugal.language.slots import LANGUAGE


@dataclass(frozen=True)
class Constant:
    value: float

    def __call__(self, rows):
        return self.value


@patch
def my_bonus(value: float = 1.0) -> Patch:
    return Patch(add={"credit.rewards": Constant(value)})


@base(LANGUAGE)
def my_base(clip: float = 0.2, **settings) -> Patch:
    fill = {"credit.advantage": GroupRelative(), "learn.clip": Clip(clip, clip), "learn.surrogate": PPOClip()}
    return Patch(fill=PLAIN | fill, set=settings)


def undecorated():
    return Patch(add={"credit.rewards": Constant(1.0)})


def number():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def test_a_users_patch_reads_and_prints_by_its_file(own):
    made = recipe(f"grpo+{own}:my_bonus(value=2.0)+ead")
    assert made.parts[f"credit.rewards.{own}:my_bonus"].value == 2.0
    assert str(made) == f"grpo+{own}:my_bonus(value=2.0)+ead"
    assert recipe(str(made)) == made and hash(recipe(str(made))) == hash(made)


def test_a_users_base_reads_and_prints_by_its_file(own):
    made = recipe(f"{own}:my_base(clip=0.3, group=4)+ead")
    assert made.parts["learn.clip"].high == 0.3 and made.settings.group == 4
    assert recipe(str(made)) == made


def test_two_files_of_one_name_stay_apart(own, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / own.name
    other.write_text(OWN.replace("value: float = 1.0", "value: float = 5.0"))
    first, second = recipe(f"grpo+{own}:my_bonus"), recipe(f"grpo+{other}:my_bonus")
    assert first.parts[f"credit.rewards.{own}:my_bonus"].value == 1.0
    assert second.parts[f"credit.rewards.{other}:my_bonus"].value == 5.0


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadRecipe, match=r"there is no file .*path/to/file.py:function"):
        recipe(f"grpo+{tmp_path}/nothing.py:my_bonus")


def test_a_function_that_is_not_there_suggests_the_nearest(own):
    wrong, why = pointed_at(f"grpo+{own}:my_bonous")
    assert wrong == f"{own}:my_bonous" and "did you mean 'my_bonus'?" in why


def test_a_file_that_cannot_be_imported_says_why_and_can_be_mended(own):
    own.write_text("import nothing_of_this_name")
    for _ in range(2):
        with pytest.raises(BadRecipe, match="ModuleNotFoundError: No module named 'nothing_of_this_name'"):
            recipe(f"grpo+{own}:my_bonus")
    own.write_text(OWN + "\n# mended")
    recipe(f"grpo+{own}:my_bonus")


def test_a_function_that_makes_no_patch(own):
    wrong, why = pointed_at(f"grpo+{own}:number")
    assert wrong == f"{own}:number" and "makes a int, neither a base nor a patch" in why
    with pytest.raises(BadRecipe, match="decorate the function"):
        recipe(f"grpo+{own}:undecorated")


def test_python_refuses_what_text_refuses():
    with pytest.raises(UnknownName, match="unknown option of online-difficulty 'lo'; did you mean 'low'"):
        online_difficulty(lo=0.1)
    assert isinstance(ead(), Patch)


def test_what_a_patch_silences_falls_back_to_the_loops_own():
    assert recipe("ppo").settings.epochs == 2
    assert recipe("ppo+remax").settings.epochs == 1
