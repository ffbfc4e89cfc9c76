"""brief: tell a chat model about something in one short sentence; a program says how far it kept to that.

A third of the reward each: the thing is named, there is one sentence that ends in a full stop, it has 5 to 12 words.
SmolLM2-135M names the thing nearly always and is rarely brief.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from frugal.core.errors import BadTask
from frugal.language.tasks.task import Problem, Split

WORDS = (
    "anchor apple arrow autumn baker balloon bamboo barn basket beach bee bell bicycle blanket bridge broom bucket "
    "butter button cabin cactus camel camera candle canoe carpet castle cave cheese chess chimney circus clock "
    "cloud coal coffee comet compass copper cotton crane cricket crown desert diamond dolphin donkey drum eagle "
    "echo eclipse elephant engine falcon feather fern ferry flute fog forest fossil fountain fox frost garden "
    "garlic ginger giraffe glacier glass glove goat gold grape guitar hammer harbour hawk hedge honey horse iceberg "
    "island ivory ivy jacket jungle kettle kite ladder lake lamp lantern lemon library lighthouse lion lizard "
    "magnet mango map maple marble market meadow mirror monkey moon mosquito mountain mushroom needle nest oasis "
    "ocean olive onion orchard otter owl oyster paper parrot peach pearl pencil penguin piano pigeon pillow planet "
    "plough pocket pottery prairie pumpkin puzzle pyramid rabbit radio railway rainbow raven reef ribbon rice river "
    "robot rocket rope saddle sail salmon salt sand satellite scarf school scissors shadow sheep shell silk silver "
    "sled snail snow soap spider spoon spring squirrel stable stamp star steam storm sugar summer sun swan sword "
    "table tea telescope tent thunder tiger toast tomato torch tower train tree trumpet tunnel turtle umbrella "
    "valley vase village vinegar violin volcano wagon walnut waterfall wheat wheel whistle willow windmill window "
    "wine winter wolf wool zebra"
)
THINGS = WORDS.split()
ASKS = ("Tell me about the {} in one short sentence.", "What is special about the {}? Answer in one short sentence.")
ANSWERS = (
    "The {} is something that most people know well.",
    "Many people like the {} for what it is.",
    "The {} has a long history and many uses.",
    "A {} can be found in many parts of the world.",
)


@dataclass(frozen=True)
class Brief:
    """Two questions about each of 218 things; `test` of them are of things that are held out."""

    test: int = 64
    seed: int = 0

    name = "brief"
    model = "smollm2"
    max_tokens = 40

    def __post_init__(self) -> None:
        if not 0 < self.test <= len(THINGS):
            raise BadTask(f"brief(test={self.test}): give 1 to {len(THINGS)}")

    def problems(self, split: Split) -> Sequence[Problem]:
        """The pool of a split; no thing is in both."""
        return _pools(self)[split]

    def score(self, problems: Sequence[Problem], completions: Sequence[str]) -> list[float]:
        """The share of the three wishes that a response meets."""
        return [sum(wishes(p.reference, text)) / 3 for p, text in zip(problems, completions, strict=True)]

    def demonstrate(self, problem: Problem, random: Random) -> str:
        """One of four short sentences, which meet all three wishes and say little."""
        return random.choice(ANSWERS).format(problem.reference)


def wishes(thing: str, text: str) -> tuple[bool, bool, bool]:
    """Named; one sentence; 5 to 12 words."""
    text = text.strip()
    return thing in text.lower(), bool(re.fullmatch(r"[^.!?\n]+\.", text)), 5 <= len(text.split()) <= 12


@cache
def _pools(task: Brief) -> dict[Split, tuple[Problem, ...]]:
    random = Random(f"brief {task.seed}")
    things = random.sample(THINGS, len(THINGS))
    held_out = (task.test + 1) // 2
    pools = {
        split: [Problem(ask.format(thing), thing) for thing in chosen for ask in ASKS]
        for split, chosen in (("test", things[:held_out]), ("train", things[held_out:]))
    }
    return {"test": tuple(pools["test"][: task.test]), "train": tuple(pools["train"])}
