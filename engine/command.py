"""Run a script's `main`: user errors print as one line, all other errors keep their traceback."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from registry import UserError

from . import distributed
from .errors import reason
from .interrupts import REQUEUE, Preempted, handle_interrupts


def run_command(main: Callable[[], object], interrupted: str = "") -> None:
    """Call `main`. UserError, OSError (full disk, lost process) and FloatingPointError (divergence) print as one line.

    SIGTERM, SIGUSR1 and SIGHUP raise KeyboardInterrupt, as Ctrl-C does, so that files are closed and locks released.
    interrupted: what to print then, unless the interrupt has a message. After SIGTERM and SIGUSR1 the exit code is
    `REQUEUE`: the same command can be started again.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    handle_interrupts()
    try:
        main()
    except (UserError, FloatingPointError, OSError) as error:
        distributed.end(f"error: {reason(error)}")
    except KeyboardInterrupt as interrupt:
        what = str(interrupt) or interrupted
        if os.environ.get("RANK", "0") == "0":  # of several processes, one says it
            print(f"interrupted: {what}" if what else "interrupted", file=sys.stderr, flush=True)
        sys.exit(REQUEUE if isinstance(interrupt, Preempted) else 1)
