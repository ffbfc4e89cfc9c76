"""Where there can be no sandbox, nothing is run, and the message says why."""

import functools
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from frugal import sandbox
from frugal.core.errors import NoSandbox, RunFailed


@pytest.fixture(autouse=True)
def own_server():
    sandbox._server.cache_clear()
    yield
    sandbox._server.cache_clear()


@pytest.mark.parametrize("step", ["unshare", "mount", "pivot_root", "umount2", "mount_setattr", "capset", "prctl"])
def test_no_step_may_fail(step, tmp_path, monkeypatch, namespaces):
    server = tmp_path / "server.py"
    begin = "    wrapped = getattr("
    text = sandbox.SERVER.read_text()
    assert text.count(begin) == 1
    server.write_text(text.replace(begin, f"    if name == {step!r}: raise OSError('broken here')\n{begin}"))
    monkeypatch.setattr(sandbox, "SERVER", server)
    with pytest.raises(NoSandbox, match="none: broken here"):
        sandbox.run("")


def test_without_namespaces_nothing_is_run(namespaces):
    """In a user namespace that allows no more of them."""
    asked = "from frugal import sandbox; print(sandbox.run('print(1)'))"
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", forbid, sys.executable, "-c", asked],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert re.search(r"NoSandbox: what a model wrote .* unshare: .*user\.max_user_namespaces", done.stderr), done.stderr
    assert not done.stdout


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NoSandbox, match=r"darwin.*Linux 5\.14"):
        sandbox.run("")


def test_a_dead_server_is_said(monkeypatch):
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    its.close()
    monkeypatch.setattr(sandbox, "_server", functools.cache(lambda: ours))
    with ours, pytest.raises(RunFailed, match="out of memory"):
        sandbox.run("")
