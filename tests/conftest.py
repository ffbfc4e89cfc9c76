"""Tests never reach for a hub, draw the same numbers every time, and one thread each keeps workers from fighting."""

import os
import shutil
import subprocess

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def seeded():
    import torch  # after the line on threads

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def namespaces():
    """Skip where no sandbox can be; asks util-linux, so that a sandbox that merely broke fails its tests."""
    asked = ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/proc"]
    if not shutil.which("unshare") or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip(f"no namespaces for this user, so no sandbox: {' '.join(asked)}")
