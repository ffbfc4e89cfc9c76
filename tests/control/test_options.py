"""An option acts or raises: every argument and setting of every base changes the trained weights, or is refused."""

import inspect
from dataclasses import fields

import pytest
import torch

from frugal.control.approximators import Shift
from frugal.core.errors import BadRecipe, BadTask
from frugal.registry import bases, usual_task
from tests.control.tinyenv import Pictures
from tests.control.tinyrun import SMALL, launch, weights

OTHER = {  # another value than the one of a small run, for every argument and setting that there is
    "hidden": (8,),
    "double": False,
    "duelling": True,
    "prioritised": True,
    "epsilon": (0.5, 0.1, 0.5),
    "ratio": 0.5,
    "every": 7,
    "normalise": True,
    "noise": 0.5,
    "target_noise": 0.6,
    "noise_clip": 0.01,
    "delay": 3,
    "alpha": 0.1,
    "baseline": True,
    "lam": 0.5,
    "clip": 0.01,
    "envs": 2,
    "gamma": 0.5,
    "n": 2,
    "lr": 5e-3,
    "batch": 8,
    "capacity": 30,
    "warmup": 40,
    "tau": 0.5,
    "track": 5,
    "max_grad_norm": 1e-3,
    "steps": 16,
    "epochs": 3,
    "value": 2.0,
    "entropy": 0.1,
    "whiten": None,  # the opposite
}
OFF = {"hidden": (16,), "warmup": 20, "batch": 16, "capacity": 500}
PLAIN = {
    "dqn": OFF | {"track": 20, "ratio": 1.0, "lr": 3e-2},
    "td3": OFF,
    "sac": OFF,
    "control.reinforce": {"hidden": (16,)},
    "a2c": {"hidden": (16,)},
    "control.ppo": {"hidden": (16,), "steps": 32, "batch": 16, "epochs": 2, "lr": 1e-2},
}


@pytest.mark.parametrize("base", sorted(SMALL))
def test_pitfall_12_an_option_acts_or_raises(base):
    make = bases()[base]
    arguments = [n for n, p in inspect.signature(make).parameters.items() if p.kind is not p.VAR_KEYWORD]
    settings = make().settings
    before = weights(launch(make(**PLAIN[base]), usual_task(base), 80))
    acted, refused = [], []
    for option in [*arguments, *(f.name for f in fields(settings))]:
        if option == "shift":  # of pictures: below
            continue
        value = not settings.whiten if option == "whiten" else OTHER[option]
        try:
            made = make(**{**PLAIN[base], option: value})
        except BadRecipe:
            refused.append(option)
            continue
        after = weights(launch(made, usual_task(base), 80))
        assert after.shape != before.shape or not torch.equal(after, before), f"{option}={value} does nothing"
        acted.append(option)
    assert refused == (["value"] if base == "control.reinforce" else []) and len(acted) >= 12


def test_a_shift_moves_pictures_and_is_refused_where_there_are_none():
    make = lambda: Pictures(16)  # noqa: E731
    text = "dqn(hidden=(16,), warmup=20, batch=16, capacity=500, ratio=1.0{})"
    plain, shifted, again = (weights(launch(text.format(x), make, 40)) for x in ("", ", shift=2", ", shift=2"))
    assert torch.equal(shifted, again) and not torch.equal(shifted, plain)
    with pytest.raises(BadTask, match="shift=2 moves pictures"):
        launch(text.format(", shift=2"), "CartPole-v1", 40)


def test_a_shift_by_hand():
    """A picture with one bright pixel: it moves by at most `pad` in each direction, evenly, and edges are repeated."""
    pictures = torch.zeros(5000, 5, 5, 1, dtype=torch.uint8)
    pictures[:, 2, 2] = 200
    moved = Shift(1)(pictures[:, None], torch.Generator().manual_seed(0))
    assert moved.shape == (5000, 1, 5, 5, 1) and moved.dtype == torch.uint8
    at = moved.view(5000, 25).argmax(1)
    counts = at.bincount(minlength=25)
    assert set(counts.nonzero()[:, 0].tolist()) == {y * 5 + x for y in (1, 2, 3) for x in (1, 2, 3)}
    assert (counts[counts > 0] - 5000 / 9).abs().max() < 5 * (5000 / 9) ** 0.5
    column = torch.arange(5, dtype=torch.uint8)[None, None, :, None, None].expand(1, 1, 5, 5, 1)
    rows = {tuple(Shift(2)(column, torch.Generator().manual_seed(s))[0, 0, :, 0, 0].tolist()) for s in range(60)}
    assert rows == {(0, 0, 0, 1, 2), (0, 0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4, 4), (2, 3, 4, 4, 4)}
