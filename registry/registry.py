"""Registry: register parts of one kind by name, list them, and build one from a config value."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from .arguments import checking, parameters
from .errors import UserError
from .nearest import none_of

T = TypeVar("T")

Spec = str | Mapping[str, Any] | Callable[..., Any]


class Registry(Generic[T]):
    """Parts of one `kind` ("neuron") by name: classes, or functions that build them.

    `build` takes a name, a mapping of `name` and arguments, {"name": "lif", "tau": 2.0}, or any callable.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._parts: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """A decorator. ValueError for a name that is taken."""

        def add(part: Any) -> Any:
            if name in self._parts:
                other = f"{self._parts[name].__module__}.{self._parts[name].__qualname__}"
                raise ValueError(f"a {self.kind} named {name!r} is registered already: {other}")
            self._parts[name] = part
            return part

        return add

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a shell pattern: `names("ems_*")`."""
        return fnmatch.filter(sorted(self._parts), pattern)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> Callable[..., T]:
        """The registered class or function. UserError names the nearest for an unknown name."""
        if not isinstance(name, str) or name not in self._parts:
            raise UserError(none_of(f"unknown {self.kind} {name!r}", name, self.names()))
        return self._parts[name]

    def arguments(self, name: str, given: int = 0) -> list[str]:
        """Names of the arguments of the part after the first `given` positional ones. A class with `**kwargs` also has
        the keyword-only arguments of its base classes."""
        return list(parameters(self[name], given))

    def build(self, spec: Spec, *args: Any, **kwargs: Any) -> T:
        """Build the part of `spec` with `args`, which every part of this kind takes, and named arguments: those of a
        mapping and `kwargs`. UserError for an unknown name, a mapping without `name`, and as in `checking`."""
        if callable(spec):
            return spec(*args, **kwargs)
        name, options = split_spec(self.kind, spec)
        options |= kwargs
        part = self[name]
        with checking(f"{self.kind} {name!r}", parameters(part, len(args)), options):
            return part(*args, **options)


def split_spec(kind: str, spec: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, named arguments) of a name, or of a mapping with the key `name`."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise UserError(f"{kind} = {spec!r}: give a name, or a mapping with the key 'name' and arguments")
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}
