"""Freed memory stays with the process, so that the next array takes no new pages."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from utils.allocator import keep_freed_memory
    keep_freed_memory()
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_a_second_array_takes_the_pages_of_the_first():
    new_pages = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", PROGRAM, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        new_pages[mode] = int(done.stdout)
    # 64 MiB are 16 384 pages of 4 KiB, or fewer larger ones.
    assert new_pages["keep"] < new_pages["default"] / 4


def test_other_libraries_are_left_alone(monkeypatch):
    from utils import allocator

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    allocator.keep_freed_memory()
