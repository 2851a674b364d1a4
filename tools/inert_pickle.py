"""Read pickles without executing them: opcodes build plain values and records; nothing is imported or called.

A published checkpoint is a pickled network of classes that are not installed here, and `pickle.load` runs whatever a
file asks it to run. Here a class or function is its name (`Global`), an object is the name of its class and its state
(`Record`), a tensor is its place in the file (`TensorRef`). A file cannot choose Python objects to call or write
to. Functions that no checkpoint needs are rejected as well, by name.
"""

from __future__ import annotations

import io
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from registry import UserError

MAX_OPCODES = 4_000_000  # networks of today have 0.1 million; bounds time and memory
LARGE = 1 << 48

DTYPES = {
    f"torch.{name}Storage": dtype
    for dtype, name in {
        **{torch.float64: "Double", torch.float32: "Float", torch.float16: "Half", torch.bfloat16: "BFloat16"},
        **{torch.int64: "Long", torch.int32: "Int", torch.int16: "Short", torch.int8: "Char"},
        **{torch.uint8: "Byte", torch.bool: "Bool"},
    }.items()
}
# Calls that are allowed and give a `Record`; so do classes of packages outside the standard library.
RECORDED = {
    *(f"pathlib.{local}{kind}" for local in ("", "_local.") for kind in ("Path", "PosixPath", "WindowsPath")),
    *("pathlib.PurePosixPath", "pathlib.PureWindowsPath", "argparse.Namespace", "types.SimpleNamespace"),
    *("datetime.datetime", "collections.defaultdict", "functools.partial", "builtins.slice", "builtins.complex"),
    *("_codecs.encode", "torch.device", "numpy.dtype"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
}
LITERALS = {  # of protocol 2 and later; torch.save writes no others
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, `module.name`."""

    name: str


@dataclass(eq=False, repr=False, slots=True)
class Record:
    """An object that was not created: the name of its class, and its attributes in the file."""

    type: str
    state: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StorageRef:
    """`numel` elements of `dtype` in the record `key` of the file."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A strided view of a storage, in elements. Numbers of the file, not yet compared with the storage's size."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(stream: io.BytesIO, where: str, storages: dict[str, StorageRef] | None = None) -> Any:
    """The next pickle of `stream`, which is left at its end. UserError, beginning with `where`, if it is not valid.

    `storages` collects the storages of the pickle's tensors, by key.
    """
    start = stream.tell()
    try:
        return _read(stream, {} if storages is None else storages)
    except _Refused as error:
        raise UserError(f"{where}: {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{where}: damaged: the pickle at byte {start} breaks off at byte {stream.tell()} ({str(error)[:200]}). "
            "Download the file again"
        ) from error


class _Refused(UserError):
    """Readable, but not content of a checkpoint."""


def _read(stream: io.BytesIO, storages: dict[str, StorageRef]) -> Any:
    stack: list[Any] = []
    marked: list[list[Any]] = []  # the stacks below each open MARK
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marked.pop()
        return items

    for count, (opcode, argument, _) in enumerate(cast(Any, pickletools.genops(stream))):
        if count == MAX_OPCODES:
            raise _Refused(f"more than {MAX_OPCODES:,} pickle opcodes: no checkpoint of a network needs so many")
        name: str = opcode.name
        if name in LITERALS:
            stack.append(argument)
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marked.append(stack)
            stack = []
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(items[::-1]))
        elif name in ("TUPLE", "FROZENSET"):
            items = since_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else since_mark()
            # A record that is a list or a mapping besides (a subclass) holds no weights in that part of it.
            if not isinstance(stack[-1], Record):
                _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
            if not isinstance(stack[-1], Record):
                _set_items(_expect(stack[-1], dict), items)
        elif name == "GLOBAL":
            stack.append(_global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_global(_expect(module, str), _expect(attribute, str)))
        elif name == "BINPERSID":
            stack.append(_persistent(_expect(stack.pop(), tuple), storages))
        elif name == "NEWOBJ":
            stack.pop()  # arguments of the class
            stack.append(Record(_expect(stack.pop(), Global).name))
        elif name == "REDUCE":
            arguments = _expect(stack.pop(), tuple)
            stack.append(_call(_expect(stack.pop(), Global).name, arguments))
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            since_mark()
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"pickle opcode {name}: torch.save writes none of these")
    raise UserError("no STOP")


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _natural(value: Any) -> int:
    if not 0 <= _expect(value, int) < LARGE:
        raise UserError("a size, stride or offset that is negative or beyond any file")
    return value


def _set_items(mapping: dict[Any, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Weights and class names stand under these. Others (such as nested tuples, endless to hash) are not looked up.
        if isinstance(key, str) or (isinstance(key, int) and 0 <= key < LARGE):
            mapping[key] = value


def _global(module: str, name: str) -> Global:
    if len(module) + len(name) > 1_000:
        raise UserError("a name of more than 1000 letters")
    # Pickles of protocol 2 have Python 2's names.
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return Global(f"{module}.{name}")


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """The result of a call of `name`. Containers are passed on, not copied: a file may contain a million calls."""
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        storage, offset, size, stride = arguments[:4]
        if not len(_expect(size, tuple)) == len(_expect(stride, tuple)) <= 8:
            raise UserError(f"a tensor of {len(size)} sizes and {len(stride)} strides")
        for number in (offset, *size, *stride):
            _natural(number)
        return TensorRef(_expect(storage, StorageRef), offset, size, stride)
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return _expect(arguments[0], TensorRef)
    if name in ("collections.OrderedDict", "builtins.dict") and not arguments:
        return {}
    if name in ("builtins.set", "builtins.frozenset", "builtins.list"):
        return _expect(arguments[0], list) if arguments else []
    if name == "torch.Size":
        return _expect(arguments[0], tuple)
    module, _, last = name.rpartition(".")
    foreign = module.split(".")[0] not in sys.stdlib_module_names
    if name in RECORDED or (foreign and last.lstrip("_")[:1].isupper()):
        return Record(name)
    raise _Refused(
        f"asks to call {name}{', a function' if last[:1].islower() else ''}, which reading weights does not need. It "
        "was not called. Take the file from its authors' page, or ask them for a plain state dict"
    )


def _build(target: Any, state: Any) -> None:
    """Attributes of a record: a dict, or (dict or None, dict of slots). Those of an OrderedDict are its metadata."""
    if isinstance(target, Record):
        if isinstance(state, tuple) and len(state) == 2:
            state = state[0] if state[0] is not None else state[1]
        if isinstance(state, dict):
            target.state = state
    else:
        _expect(target, dict)


def _persistent(saved: tuple[Any, ...], storages: dict[str, StorageRef]) -> Any:
    """("storage", type, key, device, numel[, None]), or in the legacy format also ("module", class, file, source)."""
    if saved[:1] == ("module",):
        return _expect(saved[1], Global)
    kind, storage_type, key, _, numel, view = (*saved[:6], None) if len(saved) == 5 else saved
    _expect(key, str)
    if kind != "storage" or not isinstance(storage_type, Global) or storage_type.name not in DTYPES or view:
        raise _Refused(f"a storage of a kind that is not read here; known are {', '.join(DTYPES)}")
    storage = StorageRef(key, DTYPES[storage_type.name], _natural(numel))
    if storages.setdefault(key, storage) != storage:
        raise _Refused(f"storage {key[:40]!r} is declared twice, differently")
    return storage
