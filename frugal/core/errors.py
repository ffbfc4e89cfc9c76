"""Every error that a user can cause. Each is also a standard exception and says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FrugalError(Exception):
    """Root of the tree. `exit_code` is what the command line returns: 2 for bad input, 1 for a failed run."""

    exit_code = 2


class UnknownName(FrugalError, LookupError):
    """A name that is not in a known set; suggests the nearest one."""

    def __init__(self, kind: str, name: str, allowed: Iterable[str]):
        self.wrong, choices = name, sorted(allowed)
        swapped = [choice for choice in choices if sorted(choice) == sorted(name)]  # gpro is grpo, not gspo
        near = swapped or difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(choices) or '(none)'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class BadRecipe(FrugalError, ValueError):
    """A recipe text, part or setting that cannot be used as given."""


class Clash(BadRecipe):
    """Two patches that cannot both have their way; names both, the place and a way out."""


class BadTask(FrugalError, ValueError):
    """A task, data file or reward function that cannot be used as given."""


class BadModel(FrugalError, ValueError):
    """A model that cannot be loaded or trained as given."""


class BadRun(FrugalError, ValueError):
    """A run directory or run option that cannot be used as given."""


class MissingExtra(FrugalError, ImportError):
    """An optional dependency that is not installed."""

    def __init__(self, extra: str, why: str):
        super().__init__(f'{why} needs an optional package: pip install "frugal-rl[{extra}]"')


class RunFailed(FrugalError, RuntimeError):
    """A failure during a run; what was written before it is intact."""

    exit_code = 1


class CannotWrite(RunFailed):
    """The disk is full or refuses; the run goes on where it was once there is room."""


class NoSandbox(FrugalError, OSError):
    """A machine that cannot keep what a model wrote apart from everything else, so that it is not run."""

    def __init__(self, reason: str):
        super().__init__(
            f"what a model wrote runs in a sandbox only, and this machine has none: {reason}. It takes Linux 5.14 or "
            "newer on x86-64 or ARM64, with user namespaces. To allow them, as root: sysctl -w "
            "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu, sysctl -w user.max_user_namespaces=10000 "
            "elsewhere; in Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
        )
