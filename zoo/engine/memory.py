"""What a CPU does with the memory of tensors that are gone."""

import ctypes
import os
import platform

# of malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1
OWN = ('MALLOC_', 'GLIBC_TUNABLES', 'LD_PRELOAD')


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of tensors that are gone for the next ones, in this process.

    By default it hands large blocks back to the system, which maps them anew and clears them page by page at each
    allocation. The peak of memory is the same, only between peaks the process keeps it.

    Returns:
        Whether it was done. Not with another C library, nor where the environment chooses or tunes the allocator
        (``LD_PRELOAD``, ``MALLOC_*``, ``GLIBC_TUNABLES``).
    """
    if platform.libc_ver()[0] != 'glibc' or any(name.startswith(OWN) for name in os.environ):
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, NEVER))
