"""Record the operators of a forward pass, with the number of images left open."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.weak import WeakIdKeyDictionary

from registry import UserError

from ..plain import decompositions

SIZES = 2, 3  # numbers of images that are recorded, to tell what depends on it


@dataclasses.dataclass(frozen=True)
class Images:
    """`times` x the number of images, in the place of an integer of a graph."""

    times: int

    def __mul__(self, other: int) -> Images:
        return Images(self.times * other)


Size = int | Images


@dataclasses.dataclass
class Recorded:
    """graph: operators of ATen. Each node has in `meta` its `args`, `kwargs`, `shape` and `dtype` (of tuples: lists of
    them), in which integers that depend on the number of images are `Images`.
    attributes: tensors of the graph's nodes get_attr."""

    graph: fx.Graph
    attributes: dict[str, Tensor]


def record(
    function: Callable[[Tensor], Any], example: Callable[[int], Tensor], known: Container[str], batch: int | None = None
) -> Recorded:
    """The operators of `function` on `example(images)`; for any number of images if `batch` is None.

    known: names of operators that are recorded as they are. Others that are made of several are recorded as these.

    Run twice, with two and with three images: what differs in the records is what depends on their number.
    UserError where it depends on it in another way than by a factor.
    """
    runs = [_run(function, example(size), known) for size in ([batch] if batch else SIZES)]
    first = runs[0]
    if any([n.target for n in run.graph.nodes] != [n.target for n in first.graph.nodes] for run in runs):
        raise UserError("the operators of this network depend on the number of images: export it for one, --batch 1")
    for nodes in zip(*(run.graph.nodes for run in runs), strict=True):
        node = nodes[0]
        for key in ("args", "kwargs"):
            node.meta[key] = _merged(node, [getattr(n, key) for n in nodes])
        found = _merged(node, [n.meta.pop("found", None) for n in nodes])
        several = isinstance(found, list)
        node.meta["shape"] = [part and part[0] for part in found] if several else found and found[0]
        node.meta["dtype"] = [part and part[1] for part in found] if several else found and found[1]
    _drop_repeats(first.graph)
    return Recorded(first.graph, first.attributes)


def _drop_repeats(graph: fx.Graph) -> None:
    """A step of an image that is repeated over T is the image."""
    for node in graph.nodes:
        if name_of(node) != "select" or name_of(repeated := node.args[0]) != "expand":
            continue
        steps, dim = repeated.args[0], node.args[1]
        if name_of(steps) == "unsqueeze" and steps.args[1] == dim:
            image = steps.args[0]
            for user in node.users:  # whose arguments are in `meta` too
                user.meta |= {k: _replaced(user.meta[k], node, image) for k in ("args", "kwargs")}
            node.replace_all_uses_with(image)
    graph.eliminate_dead_code()


def _replaced(arguments: Any, old: fx.Node, new: fx.Node) -> Any:
    return tree_map(lambda a: new if a is old else a, arguments)


def name_of(node: fx.Node) -> str:
    """Of an operator of ATen, without its overload; empty for other nodes."""
    return _name(node.target) if isinstance(node.target, torch._ops.OpOverload) else ""


def _name(operator: torch._ops.OpOverload) -> str:
    return operator._schema.name.split("::")[1]


def _run(function: Callable[[Tensor], Any], x: Tensor, known: Container[str]) -> _Recorder:
    recorder = _Recorder(x, known)
    with torch.no_grad(), recorder:
        found = function(x)
    recorder.graph.output(recorder.nodes_of(found))
    recorder.graph.eliminate_dead_code()
    return recorder


class _Recorder(TorchDispatchMode):
    """Within: each operator becomes a node of `graph`, with the sizes and dtypes that it gave in its `meta`."""

    def __init__(self, x: Tensor, known: Container[str]):
        super().__init__()
        self.known = known
        self.graph, self.attributes = fx.Graph(), dict[str, Tensor]()
        self.decompositions = decompositions()
        self.node_of = WeakIdKeyDictionary()  # of each tensor that is alive
        self._gives(self.graph.placeholder("x"), x)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.decompositions:
            with self:
                return self.decompositions[func](*args, **kwargs)
        if _name(func) not in self.known:
            with self:
                composed = func.decompose(*args, **kwargs)
            if composed is not NotImplemented:
                return composed
        nodes = self.nodes_of((args, kwargs))
        found = func(*args, **kwargs)
        node = self.graph.call_function(func, *nodes)
        self._gives(node, found)
        return found

    def nodes_of(self, values: Any) -> Any:
        """`values` with nodes in the place of tensors; a tensor that no operator gave is a constant."""
        return tree_map(lambda value: self._node(value) if isinstance(value, Tensor) else value, values)

    def _node(self, tensor: Tensor) -> fx.Node:
        if tensor not in self.node_of:
            name = f"constant_{len(self.attributes)}"
            self.attributes[name] = tensor
            self._gives(self.graph.create_node("get_attr", name), tensor)
        return self.node_of[tensor]

    def _gives(self, node: fx.Node, found: Any) -> None:
        several = isinstance(found, list | tuple)
        node.meta["found"] = [_size(value) for value in found] if several else _size(found)
        for index, value in enumerate(found if several else ()):
            self._gives(self.graph.call_function(operator.getitem, (node, index)), value)
        if isinstance(found, Tensor):
            self.node_of[found] = node


def _size(value: Any) -> tuple[list[int], torch.dtype] | None:
    return (list(value.shape), value.dtype) if isinstance(value, Tensor) else None


def _merged(node: fx.Node, versions: list[Any]) -> Any:
    """The first version, with `Images` in the place of integers that differ; nodes are those of the first record."""
    flat = [tree_flatten(version) for version in versions]
    if any(spec != flat[0][1] for _, spec in flat):
        raise UserError(f"{node.target}: its arguments depend on the number of images: export it for one, --batch 1")
    leaves = [_leaf(node, values) for values in zip(*(values for values, _ in flat), strict=True)]
    return tree_unflatten(leaves, flat[0][1])


def _leaf(node: fx.Node, values: tuple[Any, ...]) -> Any:
    first = values[0]
    if isinstance(first, fx.Node | Tensor) or all(type(v) is type(first) and v == first for v in values):
        return first
    times = first // SIZES[0] if isinstance(first, int) else 0
    if times and all(value == times * size for value, size in zip(values, SIZES, strict=True)):
        return Images(times)
    raise UserError(
        f"{node.target}: {', '.join(map(str, values))} for {SIZES[0]} and {SIZES[1]} images: ONNX can leave their "
        "number open only where sizes are a multiple of it. Export it for one number, --batch 1"
    )
