"""Run a script's `main`: user errors print as one line, all other errors keep their traceback."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable

from registry import UserError

from . import distributed
from .errors import reason


def run_command(main: Callable[[], object], interrupted: str = "") -> None:
    """Call `main`. UserError, OSError (full disk, lost process) and FloatingPointError (divergence) print as one line.

    SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that files are closed and locks released.
    interrupted: what to print then, unless the interrupt has a message.
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
