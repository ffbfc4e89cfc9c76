"""A reward function from a file, in a process of its own: what hangs or crashes there costs one score, not the run.

The process reads a line of JSON, the lists to call the function with, and answers with a line: the scores, or what was
raised. It stays alive between calls, so that what the file loads is loaded once. Run as a module with the function's
address it is that process.
"""

from __future__ import annotations

import inspect
import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from frugal.core.errors import BadTask
from frugal.core.text import from_file

SECONDS = 60.0  # a completion


class Failed(float):
    """The score, 0, of a completion whose verifier hung or crashed."""


class Raised(Exception):
    """What the function raised, as text."""


class Watched:
    """The function at an address such as ``my_reward.py:score``; it is given `seconds` for a completion."""

    def __init__(self, address: str, seconds: float = SECONDS):
        self.__signature__ = inspect.signature(from_file(address))
        self.address, self.seconds = address, seconds
        self._process: Any = None

    def __call__(self, **lists: list[Any]) -> list[float]:
        """The function's scores. If a batch takes too long or ends the process, its completions go one by one."""
        scores = self._ask(lists)
        if scores is not None:
            return scores
        n = max(map(len, lists.values()))
        each = [self._ask({name: values[i : i + 1] for name, values in lists.items()}) for i in range(n)]
        return [Failed() if scores is None else scores[0] for scores in each]

    def _ask(self, lists: dict[str, list[Any]]) -> list[float] | None:
        """One call; None if there was no answer in time, and the process has been ended."""
        try:
            question = json.dumps(lists).encode() + b"\n"
        except TypeError as error:
            raise BadTask(f"{self.address} asks for a field that is no plain data: {error}") from None
        worker, answer, deadline = self._started(), b"", time.monotonic() + self.seconds
        try:
            worker.stdin.write(question)
            worker.stdin.flush()
            while not answer.endswith(b"\n"):
                ready = select.select([worker.stdout], [], [], max(deadline - time.monotonic(), 0))[0]
                piece = os.read(worker.stdout.fileno(), 2**16) if ready else b""
                if not piece:
                    raise TimeoutError
                answer += piece
        except (OSError, TimeoutError):
            worker.kill()
            worker.wait()
            self._process = None
            return None
        said = json.loads(answer)
        if "raised" in said:
            raise Raised(said["raised"])
        scores: list[float] = said["scores"]
        return scores

    def _started(self) -> Any:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, self.address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the run
            )
        return self._process


def _serve(address: str) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the function prints is no answer
    function = from_file(address)
    for line in sys.stdin:
        said: dict[str, Any]
        try:
            said = {"scores": [_plain(score) for score in function(**json.loads(line))]}
        except Exception as error:
            said = {"raised": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(said) + "\n")
        out.flush()


def _plain(score: Any) -> Any:
    """A number as JSON knows it; anything else as it is, or its text, for the run to refuse."""
    score = score.item() if hasattr(score, "item") else score
    return score if score is None or isinstance(score, (int, float, str)) else repr(score)


if __name__ == "__main__":
    _serve(sys.argv[1])
