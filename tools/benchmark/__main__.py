"""`python -m tools.benchmark WHAT ...`: WHAT is the name of a module in this package."""

import importlib
import pkgutil
import sys

from . import __path__ as here

WHAT = sorted(m.name for m in pkgutil.iter_modules(here) if not m.name.startswith("_"))

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in WHAT:
        sys.exit(f"usage: python -m tools.benchmark {{{','.join(WHAT)}}} [--help]")
    importlib.import_module(f"tools.benchmark.{sys.argv[1]}").main(sys.argv[2:])
