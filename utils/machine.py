"""What the machine has: processors, memory, and how both are used."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of mallopt, from malloc.h of glibc.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
M_ARENA_MAX = -8
LARGEST = 2**31 - 1


class MemoryBudget:
    """Lets threads start work only while the memory of all work in progress stays below a limit.

    Work that alone exceeds the limit (GiB; 0: half of the machine's memory) runs alone.
    """

    def __init__(self, limit: float = 0.0):
        self.limit, self.used = limit * 2**30 or machine_memory() / 2, 0.0
        self.changed = threading.Condition()

    @contextmanager
    def take(self, need: float) -> Iterator[None]:
        """Wait for `need` bytes and hold them for the time of the block."""
        with self.changed:
            self.changed.wait_for(lambda: not self.used or self.used + need <= self.limit)
            self.used += need
        try:
            yield
        finally:
            with self.changed:
                self.used -= need
                self.changed.notify_all()

    @contextmanager
    def reserve(self, size: float) -> Iterator[None]:
        """Keep `size` bytes from all work for the time of the block, without waiting for them."""
        self.limit -= size
        try:
            yield
        finally:
            with self.changed:
                self.limit += size
                self.changed.notify_all()


def memory_of(height: int, width: int, channels: int) -> float:
    """Bytes that an image takes after the network: scores, energies, and the CRF's lattice.

    Measured with `densecrf` on photographs; an upper bound.
    """
    return height * width * (256 + 20 * channels)


def machine_memory() -> float:
    """Bytes of physical memory; 8 GiB where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return 8.0 * 2**30


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    mallopt(M_ARENA_MAX, 1)  # those of threads give their memory back whatever is asked
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, LARGEST)
