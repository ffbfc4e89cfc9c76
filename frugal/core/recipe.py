"""Recipes and patches: the algebra. A recipe is frozen data; `recipe + patch` is a new recipe; order never matters.

A *part* is a frozen dataclass that a loop calls. A place for parts is one of two kinds:

- `One`: exactly one owner, and at most one wrapper around it;
- `Many`: any number of owners, joined by an operation that commutes.

Paths: ``credit.advantage`` names a One, ``credit.advantage.scale`` a field of the part in it,
``credit.rewards`` a Many, ``credit.rewards.kl`` one entry of it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeVar

from .errors import BadRecipe, Clash, UnknownName
from .schedule import Schedule

WRAPPED = " (wrapped)"
QUESTIONS = ("start", "act", "credit", "learn", "update")

K = TypeVar("K")
V = TypeVar("V")


class Frozen(Mapping[K, V]):
    """A mapping that hashes and compares by value and cannot be changed."""

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()):
        self._items = dict(items)

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class One:
    """A place with exactly one owner."""

    signature: str


@dataclass(frozen=True)
class Many:
    """A place with any number of owners, joined by `sum`, `product`, `all` or `union`."""

    join: str
    signature: str


@dataclass(frozen=True)
class Domain:
    """The places and settings of one loop, and its words. A domain with several loops has one of these for each."""

    name: str
    slots: Mapping[str, One | Many]
    settings: type
    loop: str = ""  # its name, where the domain has several
    elsewhere: frozenset[str] = frozenset()  # places and settings of the domain's other loops
    checked: tuple[str, ...] = ("credit", "learn")  # questions whose parts have to say a number at every token
    family: str = ""  # the domain whose policies it trains too, so that one run may have stages of both
    takes: tuple[str, ...] = ()  # other domains whose patches fit its places
    base: str = "grpo"  # that a method is tested on unless its file names another
    unit: str = "completions"  # of the budget
    metric: str = "greedy"  # of an evaluation, by which arms are compared
    title: str = "held-out greedy accuracy"  # of the metric
    instead: str = ""  # another metric, for tasks that cannot measure this one
    tested: str = "held-out"  # what an evaluation is
    progress: str = "score"  # of a round
    spends: tuple[str, ...] = ("tokens", "gradient_steps", "rejected_groups")  # beside samples
    files: tuple[str, ...] = ("curve.jsonl", "completions/", "model/")  # of a run, that people look into
    smoke: int = 256  # samples that try whether an experiment runs

    @property
    def kin(self) -> str:
        """What domains have in common whose recipes can stand in one run or comparison."""
        return self.family or self.name

    def measured(self, line: Mapping[str, Any]) -> str:
        """The metric that an evaluation has."""
        return self.instead if self.instead and self.metric not in line else self.metric

    def locate(self, path: str) -> tuple[str, str]:
        """Split a path into its place and the field or entry behind it ("" if none)."""
        place = ".".join(path.split(".")[:2])
        if place not in self.slots:
            raise UnknownName(f"part of the {self.name} loop", path, self.slots)
        return place, path[len(place) + 1 :]

    def setting_names(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self.settings)]


@dataclass(frozen=True)
class Patch:
    """What one method changes. Mappings are by path (`set`: by setting); see the module's head."""

    fill: Mapping[str, Any] = field(default_factory=Frozen)
    wrap: Mapping[str, Any] = field(default_factory=Frozen)  # a part with a field `inner`
    add: Mapping[str, Any] = field(default_factory=Frozen)
    set: Mapping[str, Any] = field(default_factory=Frozen)
    leans_on: Mapping[str, str] = field(default_factory=Frozen)  # trait -> why
    gives: tuple[str, ...] = ()  # traits
    never_with: Mapping[str, str] = field(default_factory=Frozen)  # patch -> why
    claims: tuple[str, ...] = ()  # what only one patch may own inside a Many
    reads: tuple[str, ...] = ()  # places that it leaves alone but counts on being alive
    silences: tuple[str, ...] = ()  # places, settings and views ("old") that this patch makes dead
    rejects: tuple[str, ...] = ()  # kinds of groups that it filters out
    lives_on: tuple[str, ...] = ()  # kinds of groups that it learns from
    optional: Mapping[str, str] = field(default_factory=Frozen)  # path -> the argument that leaves it out
    domain: str = "language"
    name: str = ""  # set by the decorator
    args: Mapping[str, Any] = field(default_factory=Frozen)  # set by the decorator: those that differ from defaults

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Mapping):
                object.__setattr__(self, f.name, Frozen(value))

    def __str__(self) -> str:
        if not self.args:
            return self.name
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.args.items())})"

    def changes(self) -> dict[str, Any]:
        """{path or setting: new value} of everything that this patch changes."""
        added = {self.entry(path): part for path, part in self.add.items()}
        return {**self.fill, **{path + WRAPPED: part for path, part in self.wrap.items()}, **added, **self.set}

    def touches(self) -> Set[str]:
        """Every path and setting that this patch changes."""
        return {*self.fill, *self.wrap, *self.set, *map(self.entry, self.add)}

    def entry(self, path: str) -> str:
        """The full path of an addition: ``update.mask`` of `capo` is ``update.mask.capo``."""
        return path if path.count(".") > 1 else f"{path}.{self.name}"


@dataclass(frozen=True)
class Recipe:
    """A base and patches, resolved into one filling of every place of a loop. Build with `grpo() + ead()`."""

    domain: Domain = field(repr=False, hash=False)
    base: Patch
    explicit: frozenset[str] = frozenset()  # paths and settings of the base that the user chose
    patches: tuple[Patch, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "patches", tuple(sorted(self.patches, key=lambda p: p.name)))
        for patch in (self.base, *self.patches):
            self._check_names(patch)
        for patch in self.patches:
            self._check_base(patch)
        for a, b in combinations(self.patches, 2):
            self._check_pair(a, b)
        self._parts, self._settings, self.needs()  # resolve now, so that a mistake fails where it was written

    def __add__(self, patch: Patch) -> Recipe:
        if not isinstance(patch, Patch):
            raise BadRecipe(f"cannot add {type(patch).__name__} to a recipe; add a patch such as ead()")
        return dataclasses.replace(self, patches=(*self.patches, patch))

    def __str__(self) -> str:
        return "+".join(map(str, (self.base, *self.patches)))

    # -- what the recipe says ---------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, Any]:
        """{path: part}: every One under its path, every entry of a Many under ``place.entry``."""
        return dict(self._parts)

    @property
    def settings(self) -> Any:
        """The settings dataclass of the domain; values may be schedules (`at` turns them into numbers)."""
        return self._settings

    def owner(self, path: str) -> str:
        """Who put the part at `path` there: a patch or the base, and after it who changed a field or wrapped it."""
        whole = [p.name for p in self.patches if path in p.fill or path in map(p.entry, p.add)] or [self.base.name]
        fields = [p.name for p in self.patches if any(at.startswith(path + ".") for at in p.fill)]
        return ", ".join([*whole[:1], *fields, *(p.name for p in self.patches if path in p.wrap)])

    def needs(self) -> dict[str, Any]:
        """{"old.entropy": column}: what the parts need beyond log-probabilities."""
        found: dict[str, Any] = {}
        first: dict[str, str] = {}
        for path, part in self._parts.items():
            for name, column in _needs(part):
                other = first.setdefault(name, path)
                if found.setdefault(name, column) != column:
                    raise Clash(
                        f"{self.owner(other)} and {self.owner(path)} clash at {path}: it needs a column {name} that "
                        f"{other} defines differently, {column} and {found[name]}; way out: give both the same value"
                    )
        return found

    def check(self) -> None:
        """Raise `BadRecipe` unless every trait that a patch leans on is given by another part of the recipe."""
        given = {trait for patch in (self.base, *self.patches) for trait in patch.gives}
        for patch in self.patches:
            for trait, why in patch.leans_on.items():
                if trait not in given:
                    raise BadRecipe(f"{patch.name} leans on a recipe that {trait}, and nothing in {self} does: {why}")

    def as_data(self) -> dict[str, Any]:
        """JSON-ready: the text that rebuilds the recipe, and its parts and settings for the reader."""
        return {
            "recipe": str(self),
            "settings": {k: _plain(v) for k, v in vars(self._settings).items()},
            "parts": {path: _plain(part) for path, part in self._parts.items()},
        }

    # -- how it is put together -------------------------------------------------------------------------------

    @functools.cached_property
    def _parts(self) -> dict[str, Any]:
        everyone = (self.base, *self.patches)
        parts: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        for patch in everyone:
            for path, value in patch.fill.items():
                (fields if self.domain.locate(path)[1] else parts)[path] = value
        for path, value in fields.items():
            place, name = self.domain.locate(path)
            if name not in {f.name for f in dataclasses.fields(parts[place])}:
                raise BadRecipe(f"{self}: {path} is filled, but {place} holds {parts[place]}, which has no {name!r}")
            parts[place] = dataclasses.replace(parts[place], **{name: value})
        for patch in everyone:
            for place, wrapper in patch.wrap.items():
                parts[place] = dataclasses.replace(wrapper, inner=parts[place])
            for path, part in patch.add.items():
                parts[patch.entry(path)] = part
        missing = [p for p, kind in self.domain.slots.items() if isinstance(kind, One) and p not in parts]
        if missing:
            raise BadRecipe(f"the base {self.base.name} leaves {', '.join(missing)} empty; a base fills every One")
        return dict(sorted(parts.items(), key=lambda item: (QUESTIONS.index(item[0].split(".")[0]), item[0])))

    @functools.cached_property
    def _settings(self) -> Any:
        chosen: dict[str, Any] = dict(self.base.set)
        for patch in self.patches:  # a setting that a patch silences falls back to the loop's own
            chosen = {k: v for k, v in chosen.items() if k not in patch.silences}
        for patch in self.patches:
            chosen.update(patch.set)
        return self.domain.settings(**chosen)

    def _check_names(self, patch: Patch) -> None:
        if patch.domain not in (self.domain.name, *self.domain.takes):
            raise BadRecipe(
                f"{patch.name} belongs to the {patch.domain} domain, {self.base.name} to {self.domain.name}"
            )
        if not patch.name:
            raise BadRecipe(f"a patch has no name: {patch.changes()}; decorate the function that makes it with @patch")
        for path in sorted({*patch.touches(), *patch.reads}):
            if ".".join(path.split(".")[:2]) in self.domain.elsewhere:
                raise BadRecipe(
                    f"{patch.name} {'counts on' if path in patch.reads else 'changes'} {path}, which {self.base.name} "
                    f"with its {self.domain.loop} loop does not have; give it another base of the {self.domain.name} "
                    "domain"
                )
        for verb, kind in (("fill", One), ("wrap", One), ("add", Many)):
            for path in getattr(patch, verb):
                place, inside = self.domain.locate(path)
                if verb == "wrap" and inside:
                    raise BadRecipe(f"{patch.name}: cannot wrap {path}; wrap the whole of {place}")
                if not isinstance(self.domain.slots[place], kind):
                    raise BadRecipe(
                        f"{patch.name}: cannot {verb} {place}, it is a "
                        f"{type(self.domain.slots[place]).__name__} of the {self.domain.name} loop"
                    )
        for name in patch.set:
            if name not in self.domain.setting_names():
                raise UnknownName(f"setting of the {self.domain.name} loop", name, self.domain.setting_names())

    def _check_pair(self, a: Patch, b: Patch) -> None:
        """Raise `Clash` where two patches cannot both have their way; symmetric in a and b."""

        clash = functools.partial(_clash, a, b)
        if a.name == b.name:
            raise clash("the recipe", f"{a.name} is given twice")
        ours, theirs = a.changes(), b.changes()
        for path in sorted(ours.keys() & theirs.keys()):
            if path.endswith(WRAPPED):
                raise clash(path.removesuffix(WRAPPED), "both wrap it, and the order would matter")
            if ours[path] != theirs[path]:
                raise clash(path, f"one makes it {ours[path]}, the other {theirs[path]}")
        for claim in sorted(set(a.claims) & set(b.claims)):
            raise clash("what they claim", f"both own the {claim}")
        for x, y in ((a, b), (b, a)):
            for path, under in ((p, q) for p in sorted(x.fill) for q in sorted(y.fill) if q.startswith(p + ".")):
                raise clash(under, f"{x.name} fills {path} whole, {y.name} only this field of it")
            self._check_dead(x, y)
            if y.name in x.never_with:
                raise clash("the recipe", x.never_with[y.name])
            for kind in sorted(set(x.rejects) & set(y.lives_on)):
                raise clash("start.keep", f"{x.name} rejects {kind} groups, {y.name} learns from them")

    def _check_base(self, patch: Patch) -> None:
        """A base yields to every patch, except in what the user chose for it; what it makes dead stays dead."""
        self._check_dead(self.base, patch)
        for kind in sorted(set(self.base.rejects) & set(patch.lives_on)):
            why = f"{self.base.name} rejects {kind} groups, {patch.name} learns from them"
            raise _clash(self.base, patch, "start.keep", why)
        made = self.base.changes()
        for chosen in sorted(self.explicit):
            for path, value in patch.changes().items():
                if (chosen + ".").startswith(path + ".") and not (path in made and value == made[path]):
                    why = f"you chose it for {self.base.name}, {patch.name} changes it"
                    raise _clash(self.base, patch, chosen, why)
            for dead in patch.silences:
                if (chosen + ".").startswith(dead + "."):
                    why = f"you chose it for {self.base.name}, {patch.name} makes it dead"
                    raise _clash(self.base, patch, chosen, why)

    @staticmethod
    def _check_dead(x: Patch, y: Patch) -> None:
        columns = {name for part in y.changes().values() for name, _ in _needs(part)}
        for path in sorted({*y.touches(), *y.reads, *columns}):
            for dead in x.silences:
                if (path + ".").startswith(dead + "."):
                    why = f"{x.name} makes {dead} dead, so {y.name} would have no effect there"
                    raise _clash(x, y, path, why)


def _clash(a: Patch, b: Patch, path: str, why: str) -> Clash:
    """Names both, the place and a way out: the argument that leaves the change there out, where one has it."""
    ways = [f"{p.name}({p.optional[o]})" for p in (a, b) for o in p.optional if (path + ".").startswith(o + ".")]
    way = " or ".join(ways) or "leave one of them out"
    return Clash(f"{a.name} and {b.name} clash at {path}: {why}; way out: {way}")


def patch(function: Callable[..., Patch]) -> Callable[..., Patch]:
    """Decorator of a method: the function's name becomes the patch's, its arguments are remembered."""
    name = function.__name__.replace("_", "-")

    @functools.wraps(function)
    def make(*args: Any, **kwargs: Any) -> Patch:
        bound = bind(name, function, args, kwargs)
        return dataclasses.replace(function(*args, **kwargs), name=_address(function, name), args=bound)

    return make


def base(domain: Domain, name: str = "") -> Callable[[Callable[..., Patch]], Callable[..., Recipe]]:
    """Decorator of a base recipe: a function that fills every One of the domain; extra keywords are settings.

    `name` is given where another domain has a base of the function's name: ``control.ppo``.
    """

    def decorate(function: Callable[..., Patch], given: str = name) -> Callable[..., Recipe]:
        name = given or function.__name__.replace("_", "-")
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def make(*args: Any, **kwargs: Any) -> Recipe:
            for key in kwargs:
                if key not in known and key not in domain.setting_names():
                    raise UnknownName(f"option of {name}", key, {*known, *domain.setting_names()} - {"settings"})
            bound = bind(name, function, args, kwargs)
            made, plain = function(*args, **kwargs), function()
            for key in bound:
                if key in made.silences:
                    raise BadRecipe(f"{name} does not use the setting {key!r}; leave it out")
            explicit = {key for key in bound if key in domain.setting_names()}
            for path, part in made.fill.items():
                before = plain.fill.get(path)
                if before is not None and type(part) is type(before):
                    explicit |= {
                        f"{path}.{f.name}"
                        for f in dataclasses.fields(part)
                        if getattr(part, f.name) != getattr(before, f.name)
                    }
                else:
                    explicit.add(path)
            explicit |= {path for path, part in made.add.items() if part != plain.add.get(path)}
            made = dataclasses.replace(made, domain=domain.name, name=_address(function, name), args=bound)
            return Recipe(domain, made, frozenset(explicit))

        make.base_name = name  # type: ignore[attr-defined]
        return make

    return decorate


def bind(name: str, function: Callable[..., Any], args: tuple, kwargs: dict) -> Frozen[str, Any]:
    """The arguments that differ from the defaults, by name; raises `BadRecipe` or `UnknownName` on a wrong one."""
    signature = inspect.signature(function)
    named = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    if len(named) == len(signature.parameters):
        for key in kwargs:
            if key not in named:
                raise UnknownName(f"option of {name}", key, named)
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise BadRecipe(f"{name}: {error}") from None
    flat = {**{k: v for k, v in bound.items() if k in named}, **bound.get("settings", {})}
    default = {n: p.default for n, p in named.items()}
    return Frozen({k: v for k, v in flat.items() if k not in default or v != default[k]})


def _address(function: Callable[..., Any], name: str) -> str:
    """The name by which a recipe's text finds the function: the slug, or file.py:function for a user's own."""
    if function.__module__.startswith("frugal."):
        return name
    return f"{inspect.getsourcefile(function)}:{function.__name__}"


def _needs(part: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(part, "inner", None)
    if inner is not None:
        yield from _needs(inner)
    yield from getattr(part, "needs", {}).items()


def _plain(value: Any) -> Any:
    """A part, schedule or number as JSON-ready data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return str(value) if isinstance(value, Schedule) else {"part": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value
