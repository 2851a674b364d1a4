"""Import all modules of a package, so that their parts are registered."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable


def import_modules(package: str, path: Iterable[str], but: Collection[str] = ()) -> None:
    """Import every module directly in a package, `import_modules(__name__, __path__)`, except those named in `but`."""
    for module in pkgutil.iter_modules(path):
        if module.name not in but:
            importlib.import_module(f"{package}.{module.name}")
