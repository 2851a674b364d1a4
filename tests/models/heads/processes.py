"""Threads in the place of processes, for losses that are normalised over all of them."""

import threading
from concurrent.futures import ThreadPoolExecutor


class Processes:
    """Threads in the place of processes: `all_reduce` sums over them."""

    def __init__(self, count):
        self.count, self.barrier, self.given = count, threading.Barrier(count, timeout=60), {}

    def all_reduce(self, tensor):
        self.given[threading.get_ident()] = tensor.clone()
        self.barrier.wait()
        total = sum(self.given.values())
        self.barrier.wait()
        tensor.copy_(total)

    def run(self, function):
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(function, range(self.count)))
