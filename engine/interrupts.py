"""Signals that ask a training to end: noted while it steps, so that it can save first; at once where it has saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# The exit code of a process that a queue should start again: EX_TEMPFAIL of sysexits.h.
REQUEUE = 75
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)  # sent by queues before a job's time ends, or by torchrun
STOPPING = (signal.SIGINT, signal.SIGHUP)  # Ctrl-C, and the end of the terminal
AGAIN = 2.0  # seconds after which a second Ctrl-C stops at once: torchrun repeats the first one


_ending = False  # this process has been interrupted: what torchrun and queues send again changes nothing


class Preempted(KeyboardInterrupt):
    """A queue has asked this process to end; the same command continues it."""


def raise_interrupt(number: int, frame: FrameType | None = None) -> None:
    """The handler of a process that has nothing to save."""
    if not (_ending and number in PREEMPTING):
        raise interrupt(number)


def interrupt(number: int, message: str = "") -> KeyboardInterrupt:
    """The exception that ends a process after signal `number`."""
    global _ending
    _ending = True
    return (Preempted if number in PREEMPTING else KeyboardInterrupt)(*([message] if message else []))


def handle_interrupts() -> None:
    """Turn the signals into exceptions, so that files are closed and locks released."""
    global _ending
    _ending = False
    for number in (*PREEMPTING, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, raise_interrupt)


class Interrupts:
    """The signals that came within `noted()`.

    number: of the first signal, 0 before one.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at_once = False
        self._came = 0.0

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within, signals are noted instead of raised; those that are ignored stay so. Signals go to the main thread:
        in another one this does nothing."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            handled = {n: signal.getsignal(n) for n in (*PREEMPTING, *STOPPING)}
            before = {n: handler for n, handler in handled.items() if handler is not signal.SIG_IGN}
        try:
            for number in before:
                signal.signal(number, self._note)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, a signal raises its exception: what is interrupted loses nothing. One that has come raises it now."""
        self._at_once = True
        try:
            if self.number:
                raise interrupt(self.number)
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT == self.number and time.monotonic() - self._came > AGAIN
        first = not self.number
        if first:
            self.number, self._came = number, time.monotonic()
        if again or (first and self._at_once):
            raise interrupt(number)
        if first:
            # os.write: print is not safe in a handler
            os.write(2, f"{signal.Signals(number).name}: the training ends after this step\n".encode())
