"""Options of every model: arguments of `create_model` that change one part of a built detector, one file each."""

from registry import import_modules

from .registry import apply_options, option_types, register_option

__all__ = ["apply_options", "option_types", "register_option"]

import_modules(__name__, __path__)
