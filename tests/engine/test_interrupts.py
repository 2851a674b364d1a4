"""Signals: noted within a step, raised where nothing is lost, once."""

import os
import signal
import threading

import pytest

from engine import interrupts
from engine.interrupts import Interrupts, Preempted, handle_interrupts


@pytest.fixture(autouse=True)
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def test_the_first_signal_is_noted(capfd):
    noted = Interrupts()
    before = signal.getsignal(signal.SIGTERM)
    with noted.noted():
        send(signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
        assert noted.number == signal.SIGUSR1
        with pytest.raises(Preempted), noted.at_once():
            raise AssertionError("not reached")
    assert signal.getsignal(signal.SIGTERM) == before
    assert capfd.readouterr().err.count("\n") == 1  # said once


def test_at_once_is_for_its_block():
    noted = Interrupts()
    with noted.noted():
        with pytest.raises(Preempted), noted.at_once():
            send(signal.SIGTERM)
            raise AssertionError("not reached")
        send(signal.SIGTERM)  # torchrun's own, in what is cleaned up


def test_ctrl_c_ends_a_step_where_it_comes_again_later(monkeypatch):
    noted = Interrupts()
    with noted.noted():
        send(signal.SIGINT, signal.SIGINT)  # the terminal's and torchrun's
        monkeypatch.setattr(interrupts, "AGAIN", 0.0)
        with pytest.raises(KeyboardInterrupt) as caught:
            send(signal.SIGINT)
    assert not isinstance(caught.value, Preempted)


def test_ignored_signals_stay_ignored():
    """nohup has SIGHUP ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    noted = Interrupts()
    with noted.noted():
        send(signal.SIGHUP)
    assert not noted.number


def test_a_process_with_nothing_to_save_ends_at_once_and_once():
    handle_interrupts()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    handle_interrupts()
    with pytest.raises(Preempted):
        send(signal.SIGTERM)
    send(signal.SIGTERM, signal.SIGUSR1)


def test_in_another_thread_no_handler_is_set():
    errors = []

    def run():
        try:
            with Interrupts().noted():
                pass
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not errors
