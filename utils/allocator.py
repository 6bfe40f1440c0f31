"""The C library's memory allocator, set for the large arrays of a network."""

import ctypes

# Numbers of mallopt, from malloc.h of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the process keep freed memory for its next arrays; does nothing where there is no glibc.

    By default glibc takes every large array from the system and gives it back after use. The system
    clears its pages each time, which costs a network on a CPU up to 40 % of its time. The peak of
    memory stays within a tenth.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # macOS, Windows, musl
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
