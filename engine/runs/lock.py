"""Lock of a run folder: only one process trains in it. The operating system releases the lock when the process ends."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path

from registry import UserError

LOCK = ".lock"
log = logging.getLogger(__name__)


class RunLock:
    """Held from construction to `release`, or to the end of the process, also a SIGKILL.

    A POSIX record lock: loader processes do not inherit it, so they cannot hold it longer than the training. It is lost
    when this process opens and closes the file again, which only `owner` of the same folder would do.
    UserError if another process holds it.
    """

    def __init__(self, folder: Path):
        self.path = folder / LOCK
        self.file = open(self.path, "r+" if self.path.exists() else "w+")
        for _ in range(20):  # `owner` in another process may hold it for a moment
            try:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    log.warning("%s: no lock can be had there (%s): start one training at a time", folder, error)
                    break
                time.sleep(0.05)
        else:
            who = self.file.read()
            self.file.close()
            raise UserError(running(folder, who))
        self.file.truncate(0)
        self.file.write(json.dumps({"process": os.getpid(), "machine": socket.gethostname()}))
        self.file.flush()

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        if not self.file.closed:
            self.file.truncate(0)
            self.file.close()


def running(folder: Path, who: str) -> str:
    """The message for a locked folder. who: content of its lock file."""
    try:
        holder = json.loads(who)
        by = f" by process {holder['process']} on {holder['machine']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        by = ""
    return f"{folder} is being trained{by}. Wait for it, stop it, or choose another name"


def owner(folder: Path) -> str | None:
    """The message about another process that trains in `folder`; None if there is none."""
    try:
        with open(folder / LOCK) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return running(folder, file.read()) if error.errno in (errno.EACCES, errno.EAGAIN) else None
    except OSError:
        pass
    return None
