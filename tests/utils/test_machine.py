"""Freed memory stays with the process, so that the next arrays take no new pages."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
if sys.argv[1] == "keep":
    from utils.machine import keep_freed_memory
    keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_later_arrays_take_the_pages_of_the_first():
    new_pages = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", PROGRAM, mode]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        new_pages[mode] = int(done.stdout)
    # An array is 16 384 pages of 4 KiB. By default each of the 100 takes new ones. With kept memory
    # the first few do (up to 8 seen): an array may not fit between smaller pieces that came after
    # an earlier one.
    assert new_pages["keep"] < new_pages["default"] / 4


def test_other_libraries_are_left_alone(monkeypatch):
    from utils import machine

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    machine.keep_freed_memory()
