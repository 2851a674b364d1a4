"""YAML files of others, read within bounds: values only, of limited length, and no aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .regular_file import regular_only

LONGEST = 1 << 20  # bytes


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        # Aliases of aliases make a list of a billion entries out of a line each.
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: alias *{event.anchor}. Write its value out")
        return super().compose_node(parent, index)


def read_yaml(file: Path) -> Any:
    """What `file` holds. ValueError where it is no YAML, longer than `LONGEST`, or has aliases."""
    try:
        with open(file, "rb", opener=regular_only) as stream:
            raw = stream.read(LONGEST + 1)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error}. Make it a readable yaml file") from error
    if len(raw) > LONGEST:
        raise ValueError(f"{file}: longer than {LONGEST >> 20} MiB. Name the yaml file of the data set")
    try:
        return yaml.load(raw.decode("utf-8-sig"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, a month 13, a huge integer
        raise ValueError(f"{file}: not a readable yaml file: {error}") from error
