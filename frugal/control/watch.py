"""What an environment does wrong, or does not come back from, as one message."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from frugal.core.errors import FrugalError, RunFailed


class Hung(BaseException):
    """A step took too long. No Exception, so that an environment does not catch it."""


@contextmanager
def watched(name: str, what: str, seconds: float, stopped: str = "") -> Iterator[None]:
    """Within it what environment `name` raises, or a step of more than `seconds`, is a `RunFailed`; `stopped` ends it.

    Only the main thread can be interrupted.
    """
    alarm = threading.current_thread() is threading.main_thread()
    if alarm:
        before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except FrugalError:
        raise
    except Hung:
        raise RunFailed(
            f"{name} hangs: one step took more than {seconds:g} s (--step-seconds); the step is not recorded{stopped}"
        ) from None
    except Exception as error:
        raise RunFailed(f"{name} {what}: {type(error).__name__}: {error}; the step is not recorded{stopped}") from error
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _ring(*_: Any) -> None:
    raise Hung
