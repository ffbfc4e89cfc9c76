"""The algebra: a sum of patches has one value in every order, or a clash that says how to get out of it."""

import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import frugal.core.recipe as algebra
from frugal.core.errors import BadRecipe, Clash, UnknownName
from frugal.core.recipe import Patch
from frugal.core.schedule import linear
from frugal.language import capo, dapo, ead, grpo, lp_reg, ngrpo, ppo, reinforce, remax, sft
from frugal.language.parts import Clip, Critic, GroupRelative, LogProbability

from .toy import FILLED, TOY, Needing, Range, Value, Wrapper, base, patch


def clash_of(recipe, *patches):
    """The message of the clash, which is the same in both orders."""
    messages = set()
    for order in itertools.permutations(patches):
        with pytest.raises(Clash) as caught:
            sum(order, recipe)
        messages.add(str(caught.value))
    assert len(messages) == 1
    return messages.pop()


def says(message, *, who, place, way="leave one of them out"):
    assert re.search(rf"\b{who[0]} and {who[1]} clash at {re.escape(place)}: ", message), message
    assert message.endswith(f"way out: {way}"), message


# -- values ---------------------------------------------------------------------------------------------------


def test_recipes_are_equal_and_hash_equal_in_every_order():
    a, b = patch("a", add={"credit.rewards": Value(1)}), patch("b", fill={"learn.clip.low": 0.5}, set={"size": 3})
    assert base() + a + b == base() + b + a
    assert hash(base() + a + b) == hash(base() + b + a)
    assert base() + a != base() + b
    assert base() + a != base() + patch("a", add={"credit.rewards": Value(2)})


def test_adding_makes_a_new_recipe_and_leaves_the_old_one():
    before = base()
    after = before + patch("a", fill={"credit.advantage": Value(7)})
    assert before == base() and after != before
    assert before.parts["credit.advantage"] == Value(0) and after.parts["credit.advantage"] == Value(7)


def test_a_patch_cannot_be_changed_through_what_it_was_made_from():
    fill = {"learn.clip.low": 0.5}
    made = patch("a", fill=fill)
    fill["learn.clip.low"] = 0.6
    assert (base() + made).parts["learn.clip"] == Range(0.5, 1.0)
    with pytest.raises(TypeError):
        made.fill["learn.clip.low"] = 0.6


def test_only_patches_can_be_added():
    with pytest.raises(BadRecipe, match="cannot add int"):
        base() + 3


def test_parts_come_in_the_order_of_the_questions():
    recipe = base() + patch("a", add={"start.keep": Value(), "update.extra": Value()})
    assert list(recipe.parts) == ["start.keep.a", "credit.advantage", "learn.clip", "update.extra.a"]


def test_the_owner_of_a_part_is_whoever_put_it_there():
    recipe = base() + patch("a", add={"credit.rewards": Value()}) + patch("b", fill={"credit.advantage": Value(2)})
    owners = {path: recipe.owner(path) for path in recipe.parts}
    assert owners == {"credit.rewards.a": "a", "credit.advantage": "b", "learn.clip": "plain"}
    bent = base() + patch("a", fill={"learn.clip.low": 0.5}) + patch("b", wrap={"learn.clip": Wrapper(2)})
    assert bent.owner("learn.clip") == "plain, a, b"


# -- One ------------------------------------------------------------------------------------------------------


def test_two_fillings_of_a_one_clash():
    message = clash_of(
        base(), patch("a", fill={"credit.advantage": Value(1)}), patch("b", fill={"credit.advantage": Value(2)})
    )
    says(message, who="ab", place="credit.advantage")
    assert "Value(x=1)" in message and "Value(x=2)" in message


def test_two_equal_fillings_agree():
    both = base() + patch("a", fill={"credit.advantage": Value(1)}) + patch("b", fill={"credit.advantage": Value(1)})
    assert both.parts["credit.advantage"] == Value(1)


def test_different_fields_of_a_one_can_have_different_owners():
    both = base() + patch("a", fill={"learn.clip.low": 0.1}) + patch("b", fill={"learn.clip.high": 0.9})
    assert both.parts["learn.clip"] == Range(0.1, 0.9)


def test_the_same_field_filled_differently_clashes():
    message = clash_of(base(), patch("a", fill={"learn.clip.low": 0.1}), patch("b", fill={"learn.clip.low": 0.2}))
    says(message, who="ab", place="learn.clip.low")


def test_a_whole_filling_clashes_with_one_of_a_field():
    whole, part = patch("a", fill={"learn.clip": Range(5, 6)}), patch("b", fill={"learn.clip.low": 5})
    says(clash_of(base(), whole, part), who="ab", place="learn.clip.low")


def test_one_patch_may_fill_a_part_and_a_field_of_it():
    recipe = base() + patch("a", fill={"learn.clip.low": 9, "learn.clip": Range(5, 6)})
    assert recipe.parts["learn.clip"] == Range(9, 6)


def test_a_field_that_is_not_there_acts_or_raises():
    with pytest.raises(BadRecipe, match=r"credit.advantage.low is filled, but .* has no 'low'"):
        base() + patch("a", fill={"credit.advantage.low": 1})


def test_a_field_follows_the_part_that_another_patch_fills():
    fills, field = patch("a", fill={"credit.advantage": Range()}), patch("b", fill={"credit.advantage.x": 1})
    with pytest.raises(Clash):  # whole against field, rather than a field silently gone
        base() + fills + field


def test_fill_and_wrap_commute_and_the_wrapper_is_outside():
    fill, wrap = patch("a", fill={"credit.advantage": Value(1)}), patch("b", wrap={"credit.advantage": Wrapper(2)})
    assert base() + fill + wrap == base() + wrap + fill
    assert (base() + wrap + fill).parts["credit.advantage"] == Wrapper(2, inner=Value(1))
    assert (base() + wrap).parts["credit.advantage"] == Wrapper(2, inner=Value(0))


def test_a_field_fill_reaches_the_wrapped_part():
    field, wrap = patch("a", fill={"credit.advantage.x": 5}), patch("b", wrap={"credit.advantage": Wrapper(2)})
    assert (base() + field + wrap).parts["credit.advantage"] == Wrapper(2, inner=Value(5))
    assert (base() + wrap + field).parts["credit.advantage"] == Wrapper(2, inner=Value(5))


def test_two_wraps_clash_even_if_equal():
    a, b = (patch(name, wrap={"credit.advantage": Wrapper(1)}) for name in "ab")
    says(clash_of(base(), a, b), who="ab", place="credit.advantage")


def test_a_field_cannot_be_wrapped():
    with pytest.raises(BadRecipe, match=r"a: cannot wrap learn\.clip\.low"):
        base() + patch("a", wrap={"learn.clip.low": Wrapper()})


@pytest.mark.parametrize(
    "change, why",
    [
        ({"fill": {"credit.rewards": Value()}}, "cannot fill credit.rewards, it is a Many"),
        ({"wrap": {"credit.rewards": Wrapper()}}, "cannot wrap credit.rewards, it is a Many"),
        ({"add": {"learn.clip": Value()}}, "cannot add learn.clip, it is a One"),
    ],
)
def test_each_verb_has_its_kind_of_place(change, why):
    with pytest.raises(BadRecipe, match=why):
        base() + patch("a", **change)


# -- Many -----------------------------------------------------------------------------------------------------


def test_additions_live_side_by_side_under_their_owners():
    both = base() + patch("a", add={"credit.rewards": Value(1)}) + patch("b", add={"credit.rewards": Value(2)})
    assert {k: v for k, v in both.parts.items() if k.startswith("credit.rewards")} == {
        "credit.rewards.a": Value(1),
        "credit.rewards.b": Value(2),
    }


def test_a_named_entry_has_one_owner():
    a, same, other = (patch(n, add={"update.weights.correction": Value(x)}) for n, x in (("a", 1), ("b", 1), ("c", 2)))
    assert (base() + a + same).parts["update.weights.correction"] == Value(1)
    says(clash_of(base(), a, other), who="ac", place="update.weights.correction")


def test_an_entry_of_the_base_yields_to_a_patch_unless_the_user_chose_it():
    mine = patch("a", add={"credit.rewards.task": Value(2)})
    default = base(add={"credit.rewards.task": Value(1)})
    chosen = base(add={"credit.rewards.task": Value(1)}, explicit=["credit.rewards.task"])
    assert (default + mine).parts["credit.rewards.task"] == Value(2)
    says(clash_of(chosen, mine), who=["plain", "a"], place="credit.rewards.task")
    assert (chosen + patch("a", add={"credit.rewards.task": Value(1)})).parts["credit.rewards.task"] == Value(1)


# -- settings, claims, silences, groups -----------------------------------------------------------------------


def test_settings_agree_or_clash():
    three, also, four = (patch(n, set={"size": x}) for n, x in (("a", 3), ("b", 3), ("c", 4)))
    assert (base() + three + also).settings.size == 3
    says(clash_of(base(), three, four), who="ac", place="size")


def test_a_setting_may_be_a_schedule_and_compares_by_value():
    a, same, other = (patch(n, set={"rate": linear(1, end)}) for n, end in (("a", 0), ("b", 0), ("c", 0.5)))
    assert (base() + a + same).settings.rate(0.5) == 0.5
    says(clash_of(base(), a, other), who="ac", place="rate")


def test_one_claim_has_one_owner():
    message = clash_of(base(), patch("a", claims=("baseline",)), patch("b", claims=("other", "baseline")))
    assert "a and b clash" in message and "both own the baseline" in message and "way out" in message
    base() + patch("a", claims=("baseline",)) + patch("b", claims=("other",))


@pytest.mark.parametrize(
    "dead, change, place",
    [
        ("learn.clip", {"fill": {"learn.clip": Range(2, 3)}}, "learn.clip"),
        ("learn.clip", {"fill": {"learn.clip.low": 2}}, "learn.clip.low"),
        ("learn.clip", {"wrap": {"learn.clip": Wrapper()}}, "learn.clip"),
        ("credit", {"add": {"credit.rewards": Value()}}, "credit.rewards.b"),
        ("credit.rewards.b", {"add": {"credit.rewards": Value()}}, "credit.rewards.b"),
        ("size", {"set": {"size": 3}}, "size"),
        ("learn.clip", {"reads": ("learn.clip",)}, "learn.clip"),
        ("now", {"fill": {"credit.advantage": Needing("entropy")}}, "now.thing"),
    ],
)
def test_touching_what_is_silenced_clashes(dead, change, place):
    silences, touches = patch("a", silences=(dead,)), patch("b", **change)
    says(clash_of(base(), silences, touches), who="ab", place=place)
    says(clash_of(base(silences=(dead,)), touches), who=["plain", "b"], place=place)


def test_a_silence_ends_at_a_whole_word():
    (
        base()
        + patch("a", silences=("credit.reward", "siz"))
        + patch("b", add={"credit.rewards": Value()}, set={"size": 2})
    )


@pytest.mark.parametrize("dead, chosen", [("learn.clip", "learn.clip.low"), ("size", "size")])
def test_silencing_what_the_user_chose_for_the_base_clashes(dead, chosen):
    recipe = base(explicit=[chosen], set={"size": 2})
    says(clash_of(recipe, patch("a", silences=(dead,))), who=["plain", "a"], place=chosen)
    base(set={"size": 2}) + patch("a", silences=(dead,))  # a default goes dead without a word


def test_never_with_gives_its_reason():
    message = clash_of(base(), patch("a", never_with={"b": "they fight"}), patch("b"))
    assert "a and b clash" in message and "they fight" in message and "way out" in message
    base() + patch("a", never_with={"b": "they fight"}) + patch("c")


def test_groups_that_one_rejects_and_another_lives_on():
    rejects, lives = patch("a", rejects=("all-wrong", "all-right")), patch("b", lives_on=("all-wrong",))
    message = clash_of(base(), rejects, lives)
    says(message, who="ab", place="start.keep")
    assert "a rejects all-wrong groups, b learns from them" in message
    says(clash_of(base(rejects=("all-wrong",)), lives), who=["plain", "b"], place="start.keep")
    base() + patch("a", rejects=("all-right",)) + lives


def test_leaning_is_checked_when_the_recipe_is_whole():
    leaning = base() + patch("a", leans_on={"corrects off-policy": "its samples are older"})
    with pytest.raises(BadRecipe, match=r"a leans on a recipe that corrects off-policy.*its samples are older"):
        leaning.check()
    (leaning + patch("b", gives=("corrects off-policy",))).check()
    base_gives = base(gives=("corrects off-policy",))
    (base_gives + patch("a", leans_on={"corrects off-policy": "why"})).check()


def test_a_clash_names_the_argument_that_is_the_way_out():
    optional = {"fill": {"learn.clip.low": 1.0}, "optional": {"learn.clip": "loose=False"}}
    rival = patch("b", fill={"learn.clip.low": 2.0})
    says(clash_of(base(), patch("a", **optional), rival), who="ab", place="learn.clip.low", way="a(loose=False)")
    both = patch("a", **optional), patch("b", fill={"learn.clip.low": 2.0}, optional={"learn.clip.low": "low=None"})
    says(clash_of(base(), *both), who="ab", place="learn.clip.low", way="a(loose=False) or b(low=None)")
    silent = base(silences=("learn.clip",))
    says(clash_of(silent, patch("a", **optional)), who=["plain", "a"], place="learn.clip.low", way="a(loose=False)")
    chosen = base(explicit=["learn.clip.low"])
    says(clash_of(chosen, patch("a", **optional)), who=["plain", "a"], place="learn.clip.low", way="a(loose=False)")
    wraps = patch("a", wrap={"learn.clip": Wrapper()}, optional={"learn.clip": "wrap=False"})
    other = patch("b", wrap={"learn.clip": Wrapper()})
    says(clash_of(base(), wraps, other), who="ab", place="learn.clip", way="a(wrap=False)")


# -- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fill", "wrap", "add"])
def test_an_unknown_place_suggests_the_nearest(kind):
    with pytest.raises(UnknownName, match=r"unknown part of the toy loop 'credit.advntage'.*'credit.advantage'"):
        base() + patch("a", **{kind: {"credit.advntage": Value()}})


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown setting of the toy loop 'sise'; did you mean 'size'"):
        base() + patch("a", set={"sise": 3})


def test_a_name_far_from_all_is_answered_with_the_choices():
    with pytest.raises(UnknownName, match="choose from: rate, size"):
        base() + patch("a", set={"xyzzy": 3})


def test_a_base_fills_every_one():
    with pytest.raises(BadRecipe, match=r"plain leaves learn\.clip empty"):
        base(fill={"credit.advantage": Value()})


def test_a_patch_is_given_once_and_has_a_name_and_a_domain():
    with pytest.raises(Clash, match="given twice"):
        base() + patch("a") + patch("a", set={"size": 3})
    with pytest.raises(BadRecipe, match="decorate"):
        base() + patch("")
    with pytest.raises(BadRecipe, match="belongs to the language domain"):
        base() + Patch(name="a", domain="language")


# -- needs, data ----------------------------------------------------------------------------------------------


def test_needs_are_collected_from_parts_and_from_what_they_wrap():
    assert base().needs() == {}
    added = base() + patch("a", add={"credit.rewards": Needing("entropy")})
    wrapped = base(fill={**FILLED, "credit.advantage": Needing("entropy")}) + patch(
        "a", wrap={"credit.advantage": Wrapper()}
    )
    assert added.needs() == wrapped.needs() == {"now.thing": "entropy"}


def test_needs_that_differ_clash_when_the_recipe_is_made():
    a, same, other = (
        patch(n, add={"credit.rewards": Needing(c)}) for n, c in (("a", "entropy"), ("b", "entropy"), ("c", "top-k"))
    )
    assert (base() + a + same).needs() == {"now.thing": "entropy"}
    message = clash_of(base(), a, other)
    says(message, who="ac", place="credit.rewards.c", way="give both the same value")
    assert "now.thing" in message


def test_a_wrapper_cannot_hide_what_its_inner_part_needs():
    inner = base(fill={**FILLED, "credit.advantage": Needing("entropy")})
    with pytest.raises(Clash, match=r"now\.thing"):
        inner + patch("a", wrap={"credit.advantage": Needing("top-k")})


@pytest.mark.parametrize(
    "recipe",
    [
        base() + patch("a", wrap={"credit.advantage": Wrapper((1, 2))}, set={"rate": linear(1, 0)}),
        grpo() + ead() + capo(policy=float("inf")) + lp_reg(),
        reinforce(),  # its clip range is infinite
    ],
    ids=str,
)
def test_as_data_is_strict_json(recipe):
    data = recipe.as_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["recipe"] == str(recipe)
    assert set(data["parts"]) == set(recipe.parts) and data["settings"].keys() == vars(recipe.settings).keys()


def test_as_data_shows_fields_wrappers_and_schedules():
    recipe = base() + patch("a", wrap={"credit.advantage": Wrapper((1, 2))}, set={"rate": linear(1, 0)})
    data = recipe.as_data()
    assert data["settings"] == {"size": 1, "rate": "linear(1, 0)"}
    assert data["parts"]["credit.advantage"] == {
        "part": "Wrapper",
        "x": [1, 2],
        "inner": {"part": "Value", "x": 0.0},
    }


# -- the decorators -------------------------------------------------------------------------------------------


@algebra.patch
def my_patch(size: int = 2, bound: float | None = None) -> Patch:
    return Patch(domain="toy", set={"size": size}, fill={} if bound is None else {"learn.clip.low": bound})


@algebra.base(TOY)
def my_base(low: float = 0.0, reward: float = 0.0, ranged: bool = False, **settings) -> Patch:
    advantage = Range() if ranged else Value()
    return Patch(
        fill={"credit.advantage": advantage, "learn.clip": Range(low, 1.0)},
        add={"credit.rewards.task": Value(reward)} if reward else {},
        set=settings,
        silences=("rate",),
    )


def test_a_patch_remembers_the_arguments_that_differ_from_the_defaults():
    assert my_patch(3, bound=None).args == my_patch(size=3).args == {"size": 3}
    assert my_patch(2) == my_patch() and hash(my_patch(2)) == hash(my_patch())
    assert str(ead(hot=1.3)) == "ead(hot=1.3)" and str(ead(hot=1.2)) == "ead"


def test_wrong_arguments_are_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="unknown option of my-patch 'boond'; did you mean 'bound'"):
        my_patch(boond=3)
    with pytest.raises(UnknownName, match="unknown option of my-base 'sise'; did you mean 'size'"):
        my_base(sise=3)
    with pytest.raises(BadRecipe, match="my-patch"):
        my_patch(1, 2, 3)


def test_an_option_that_the_base_makes_dead_is_refused():
    with pytest.raises(BadRecipe, match="does not use the setting 'rate'"):
        my_base(rate=0.5)
    with pytest.raises(BadRecipe, match="does not use the setting 'epochs'"):
        reinforce(epochs=2)


@pytest.mark.parametrize(
    "chosen, change",
    [
        ({"size": 5}, {"set": {"size": 6}}),
        ({"low": 0.5}, {"fill": {"learn.clip.low": 0.6}}),
        ({"low": 0.5}, {"fill": {"learn.clip": Range(0.6, 1)}}),
        ({"reward": 1.0}, {"add": {"credit.rewards.task": Value(2.0)}}),
        ({"ranged": True}, {"fill": {"credit.advantage": Value(1)}}),
    ],
)
def test_a_patch_clashes_with_what_the_user_chose_and_not_with_defaults(chosen, change):
    mine = patch("a", **change)
    with pytest.raises(Clash, match=r"and a clash at .*you chose it for .*; way out: "):
        my_base(**chosen) + mine
    recipe = my_base() + mine
    assert all(recipe.owner(path) == "a" for verb in ("fill", "add") for path in change.get(verb, {}))
    assert recipe.settings.size == change.get("set", {}).get("size", 1)


def test_what_the_user_chose_agrees_with_an_equal_setting_and_with_other_fields():
    assert (my_base(size=5) + patch("a", set={"size": 5})).settings.size == 5
    assert (my_base(low=0.5) + patch("a", fill={"learn.clip.high": 3})).parts["learn.clip"] == Range(0.5, 3)


# -- the language domain --------------------------------------------------------------------------------------


def test_language_patches_change_what_they_say():
    recipe = grpo() + ead(hot=1.3) + lp_reg()
    assert recipe.parts["learn.clip"] == Clip(1.0, 9.0)
    assert recipe.parts["act.temperature.ead"].hot == 1.3
    assert set(recipe.needs()) == {"old.proxy"}
    assert recipe == grpo() + lp_reg() + ead(hot=1.3)


def test_language_fields_follow_the_base():
    normalised = Patch(name="mine", fill={"credit.advantage.scale": "none"})
    assert (grpo() + normalised).parts["credit.advantage"] == GroupRelative(scale="none")
    with pytest.raises(BadRecipe, match="has no 'scale'"):
        ppo() + normalised


def test_language_clashes_name_both_place_and_way_out():
    says(
        clash_of(grpo(), lp_reg(), ngrpo()),
        who=["lp-reg", "ngrpo"],
        place="learn.clip.high",
        way="lp-reg(loose=False) or ngrpo(asymmetric=False)",
    )
    says(clash_of(dapo(), ngrpo()), who=["dapo", "ngrpo"], place="start.keep")
    says(clash_of(sft(), ead()), who=["sft", "ead"], place="act.temperature.ead")
    says(clash_of(grpo(epochs=4), remax()), who=["grpo", "remax"], place="epochs")
    assert (grpo() + lp_reg(loose=False) + ngrpo()).parts["learn.clip"] == Clip(0.16, 0.24)


def test_language_base_yields_to_a_filling():
    assert (ppo() + remax()).parts["learn.surrogate"] == LogProbability()
    assert isinstance(ppo().parts["credit.advantage"], Critic)


@pytest.mark.parametrize("wrong", [{"group": 0}, {"group": True}, {"lr": "high"}, {"unit": "word"}, {"mean": "sum"}])
def test_language_settings_are_checked(wrong):
    with pytest.raises(BadRecipe, match=next(iter(wrong))):
        grpo(**wrong)


# -- every order ----------------------------------------------------------------------------------------------

few = st.integers(0, 1)
changes = st.fixed_dictionaries(
    {},
    optional={
        "fill": st.dictionaries(
            st.sampled_from(["credit.advantage", "credit.advantage.x", "learn.clip.low", "learn.clip.high"]), few
        ).map(lambda d: {k: Value(v) if k == "credit.advantage" else v for k, v in d.items()}),
        "wrap": st.dictionaries(st.sampled_from(["credit.advantage", "learn.clip"]), few.map(Wrapper), max_size=1),
        "add": st.dictionaries(
            st.sampled_from(["credit.rewards", "credit.rewards.task", "update.weights", "start.keep"]),
            few.map(lambda v: Needing("one") if v else Value()),
        ),
        "set": st.dictionaries(st.sampled_from(["size", "rate"]), few),
        "claims": st.sampled_from([(), ("baseline",)]),
        "silences": st.sampled_from([(), (), ("learn.clip",), ("rate",), ("update",)]),
        "rejects": st.sampled_from([(), ("all-wrong",)]),
        "lives_on": st.sampled_from([(), ("all-wrong",)]),
        "never_with": st.sampled_from([{}, {}, {"a": "because"}]),
        "optional": st.sampled_from([{}, {"learn.clip": "loose=False"}]),
    },
)


def outcome(recipe, patches):
    """The recipe, or the words of the clash."""
    try:
        return sum(patches, recipe)
    except Clash as clash:
        return str(clash)


@settings(deadline=None)
@given(st.lists(changes, min_size=2, max_size=3), st.sampled_from([(), ("size",), ("learn.clip.low",)]))
def test_a_sum_is_equal_or_clashes_in_every_order(changed, explicit):
    recipe = base(explicit=explicit, set={"size": 2})
    patches = [patch(name, **change) for name, change in zip("abc", changed, strict=False)]
    results = {outcome(recipe, order) for order in itertools.permutations(patches)}
    if any(isinstance(result, str) for result in results):
        # which clash is met first may depend on the order, but each is one that its participants have on their own
        alone = [outcome(recipe, some) for n in (1, 2) for some in itertools.combinations(patches, n)]
        assert results <= {result for result in alone if isinstance(result, str)}
    else:
        assert len(results) == 1 and len({hash(result) for result in results}) == 1


@settings(deadline=None)
@given(changes, changes)
def test_a_sum_does_not_depend_on_the_names(x, y):
    """Patches are sorted by name inside; nothing may be decided by that."""

    def said(name_of_x, name_of_y):
        result = outcome(base(set={"size": 2}), [patch(name_of_x, **x), patch(name_of_y, **y)])
        if isinstance(result, str):
            return "clash"
        new = {f".{name_of_x}": ".x", f".{name_of_y}": ".y"}
        return {path[:-2] + new.get(path[-2:], path[-2:]): part for path, part in result.parts.items()}, result.settings

    assert said("p", "q") == said("q", "p")
