"""Programs that a model wrote, run in a sandbox."""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from frugal.core.errors import NoSandbox, RunFailed

SERVER = Path(__file__).with_name("server.py")
Status = Literal["ok", "error", "timeout"]


@dataclass(frozen=True)
class Result:
    """How a program ended, and what it wrote: an "error" is an exception, a crash, or an exit status but 0."""

    status: Status
    stdout: str
    stderr: str


def run(code: str, stdin: str = "", seconds: int = 5, memory_mb: int = 512) -> Result:
    """Run a Python program with the standard library, away from everything else.

    - It sees no files, processes, environment or network of the machine.
    - It has `seconds` of processor time, three times as many by the clock, and `memory_mb` MiB of memory.
    - It starts in an empty directory that goes with it and takes 16 MiB, as do stdout and stderr.
    - It may start threads, but no processes, and open no sockets.

    The order of sets is the same in every run. Any thread may call this. Raises `NoSandbox` where the machine has not
    what it takes: Linux 5.14 or newer, with user namespaces, on x86-64 or (never tried) ARM64.
    """
    server = _server()
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in range(4)]
        for file, text in zip(files, (code, stdin), strict=False):
            file.write(text.encode(errors="replace"))
            file.seek(0)
        answer, end = os.pipe()
        stack.callback(os.close, answer)  # and if that is early, on Ctrl-C, the program ends
        request = struct.pack("2q", seconds, memory_mb << 20)
        try:
            with suppress(ConnectionError):
                socket.send_fds(server, [request], [*(file.fileno() for file in files), end])
        finally:
            os.close(end)
        status = os.read(answer, 1000).decode()
        if not status:
            raise RunFailed("a sandbox was killed from outside; is the machine out of memory?")
        if status not in ("ok", "error", "timeout"):
            raise NoSandbox(status)
        return Result(cast(Status, status), *(_text(file) for file in files[2:]))


@functools.cache
def _server() -> socket.socket:
    """The way to this process's server, which ends when it has no other end."""
    if sys.platform != "linux":
        raise NoSandbox(f"it runs {sys.platform}")
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))  # no virtual environment
    with its:
        subprocess.run(
            [python, "-P", "-s", "-S", str(SERVER), str(its.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0"},
            pass_fds=[its.fileno()],
            start_new_session=True,
            check=True,
        )
    return ours


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
