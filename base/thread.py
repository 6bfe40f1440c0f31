"""Threads that run a network on several images at once."""

from concurrent.futures import ThreadPoolExecutor

import torch

NETWORKS = 4
"""Images that go through a network at once on a CPU; their memory adds up."""


def network_pool(threads: int) -> ThreadPoolExecutor:
    """Threads of which `NETWORKS` at most run a network, on the processors that torch may use.

    Layers of small images do not keep many processors busy, so that each image has a share of them.
    """
    share = max(1, torch.get_num_threads() // min(threads, NETWORKS))
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(share,))
