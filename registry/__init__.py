"""Registries of parts by name, nearest-name errors, `UserError`. Imports no other room."""

from .arguments import checking, parameters
from .discovery import import_modules
from .errors import UserError
from .nearest import did_you_mean, none_of, reject_unknown
from .registry import Registry, split_spec

__all__ = [
    "Registry",
    "UserError",
    "checking",
    "did_you_mean",
    "import_modules",
    "none_of",
    "parameters",
    "reject_unknown",
    "split_spec",
]
