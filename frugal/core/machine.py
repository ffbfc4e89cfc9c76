"""What a process asks of its machine before it trains."""

from __future__ import annotations

import ctypes

from frugal.lazy import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def prepare(threads: int) -> None:
    """Use so many threads (0: torch's own number), and have glibc reuse large blocks instead of giving them back: each
    return costs a page fault for every 4 KiB.
    """
    if threads:
        torch.set_num_threads(threads)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
