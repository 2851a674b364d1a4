"""Runs a script's `main` as a command: what the user did wrong is one line, everything else keeps its traceback."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from registry import UserError

from . import distributed
from .errors import reason


def run_command(main: Callable[[], object], interrupted: str = "") -> None:
    """`main()`; SIGTERM and SIGHUP end it like Ctrl-C, with one line and the remark `interrupted`, and files in order.

    OSErrors (a full disk, a lost process) and FloatingPointErrors (a diverged training) name what happened, too.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(stop, signal.default_int_handler)
    try:
        main()
    except (UserError, FloatingPointError, OSError) as error:
        distributed.end(f"error: {reason(error)}")
    except KeyboardInterrupt as interrupt:
        what = str(interrupt) or interrupted
        sys.exit(f"interrupted: {what}" if what else "interrupted")
