"""Read the weights of a published checkpoint: the state dict of the pickled network, under its own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from registry import UserError

from .inert_pickle import Record, TensorRef
from .torch_file import TorchFile

MAX_ENTRIES, MAX_NAME = 200_000, 1_000  # parameters, buffers and modules; letters of a name. SpikeYOLO: 3 000, 50


@dataclass
class PublishedNetwork:
    """weights: floats as float32. origin: format of the file, key and class of the network, dtypes, in words.
    class_names: in the order of the labels, None if the file has none. epochs: trained, 0 if the file does not say."""

    weights: dict[str, Tensor]
    origin: str
    class_names: list[str] | None
    epochs: int


def read_published(path: Path, which: str | None = None) -> PublishedNetwork:
    """Read {"ema": network, "model": network, ...}, a network, or a state dict in either place.

    which: a key of the file; default: ema (averaged weights), else model, else state_dict. ValueError as `TorchFile`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        source = TorchFile(file)
        where, found = _find(source.content, which, path)
        refs = _walk(found, path) if isinstance(found, Record) else found
        if not refs:
            raise UserError(f"{path}: {where} holds no weights; choose another key with --which")
        refs, without = _unwrapped(refs)
        weights = {name: source.tensor(ref) for name, ref in refs.items()}
    dtypes = ", ".join(sorted({str(w.dtype).removeprefix("torch.") for w in weights.values()}))
    kind = f" ({found.type})" if isinstance(found, Record) else ""
    return PublishedNetwork(
        weights={name: w.float() if w.is_floating_point() else w for name, w in weights.items()},
        origin=f"{source.kind} format, {where}{kind}, {len(weights)} tensors, {dtypes}{without}",
        class_names=_class_names(found.state.get("names")) if isinstance(found, Record) else None,
        epochs=_epochs(source.content) if isinstance(source.content, dict) else 0,
    )


def _find(content: Any, which: str | None, path: Path) -> tuple[str, Record | dict[str, TensorRef]]:
    """(where, the network or its state dict)."""
    if which is None and isinstance(content, Record):
        return "the network itself", content
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, in place of a network or its weights")
    for key in (which,) if which else ("ema", "model", "state_dict"):
        value = content.get(key)
        if isinstance(value, Record):
            return repr(key), value
        if isinstance(value, dict) and (refs := _tensors(value)):
            return repr(key), refs
    if which is None and (refs := _tensors(content)):
        return "a state dict", refs
    keys = ", ".join(str(key)[:40] for key in list(content)[:12])
    wanted = f"under {which!r}" if which else "under ema, model or state_dict"
    raise UserError(f"{path}: no network or weights {wanted}; its keys: {keys or '(none)'}. Choose one with --which")


def _tensors(mapping: Mapping[Any, Any]) -> dict[str, TensorRef]:
    return {name: ref for name, ref in mapping.items() if isinstance(name, str) and isinstance(ref, TensorRef)}


def _unwrapped(refs: dict[str, TensorRef]) -> tuple[dict[str, TensorRef], str]:
    """The names without `0.` if all begin so, those of a network in a container, as SpikingYOLOX saves it; and the
    remark for `origin`."""
    if not all(name.startswith("0.") for name in refs):
        return refs, ""
    return {name.removeprefix("0."): ref for name, ref in refs.items()}, ", names without their leading '0.'"


def _epochs(content: dict[Any, Any]) -> int:
    """Epochs trained. `start_epoch` (YOLOX): the next, from 0; `epoch`: the last, -1 once the optimizer is stripped."""
    for key, offset in (("start_epoch", 0), ("epoch", 1)):
        number = content.get(key)
        if type(number) is int and 0 <= number < 1_000_000:
            return number + offset
    return 0


def _walk(network: Record, path: Path) -> dict[str, TensorRef]:
    """The state dict of a recorded `nn.Module`: its parameters, persistent buffers, and those of its children."""
    found: dict[str, TensorRef] = {}
    waiting, entries = [("", network)], 0
    while waiting:
        prefix, module = waiting.pop()
        groups = [module.state.get(name) or {} for name in ("_parameters", "_buffers", "_modules")]
        hidden = module.state.get("_non_persistent_buffers_set") or []
        if not all(isinstance(group, dict) for group in groups) or not isinstance(hidden, list):
            raise UserError(f"{path}: module {prefix or '(root)'} holds no dicts of parameters; the file is damaged")
        # A small file can contain modules that contain themselves or each other: bound the traversal.
        entries += sum(map(len, groups)) + len(hidden)
        lengths = [len(prefix) + len(name) for group in groups for name in group if isinstance(name, str)]
        if entries > MAX_ENTRIES or max(lengths, default=0) > MAX_NAME:
            raise UserError(f"{path}: modules without end, at {prefix[:60] or '(root)'}...; the file is damaged")
        parameters, buffers, modules = groups
        volatile = {name for name in hidden if isinstance(name, str)}
        for name, ref in (*_tensors(parameters).items(), *_tensors(buffers).items()):
            if name not in volatile:
                found[prefix + name] = ref
        waiting += [(f"{prefix}{name}.", child) for name, child in modules.items() if isinstance(child, Record)][::-1]
    return found


def _class_names(names: Any) -> list[str] | None:
    """A network's `names`: a list, or a dict by label."""
    if isinstance(names, dict):
        names = [names.get(k) for k in range(len(names))]
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
