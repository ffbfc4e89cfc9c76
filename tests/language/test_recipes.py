"""Bases that are compositions of others."""

import pytest

from frugal.core.errors import BadRecipe
from frugal.language import frugal_language, reinforce


@pytest.mark.parametrize("settings", [{}, {"prompts": 4, "beta": 0.1}, {"group": 2}])
def test_frugal_language_is_reinforce_with_one_response_a_prompt(settings):
    mine, other = frugal_language(**settings), reinforce(**{"group": 1, **settings})
    assert mine.parts == other.parts and mine.settings == other.settings
    with pytest.raises(BadRecipe, match="frugal-language does not use the setting 'epochs'"):
        frugal_language(epochs=2)
