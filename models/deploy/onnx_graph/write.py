"""Write recorded operators as an ONNX model: each node by the tables, constants computed, unused nodes left out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, fx
from torch.utils._pytree import tree_flatten, tree_map

from registry import UserError

from . import elementwise, layers, shapes
from .builder import Builder, onnx_type
from .trace import Images, Recorded, name_of

KNOWN = frozenset().union(elementwise.KNOWN, layers.OPERATORS, shapes.SAME, shapes.OPERATORS)
OPSET = 17  # onnxruntime >= 1.12, TensorRT >= 8.6


def write(
    recorded: Recorded, weights: Mapping[str, Tensor], source: tuple[str, int], results: Mapping[str, fx.Node],
    outputs: Sequence[str],
) -> onnx.ModelProto:  # fmt: skip
    """
    Args:
        weights: {name: parameter or buffer}, which constants are named after.
        source: name of the input, and its axis of images.
        results: {name: node}, what values are called in the file, where they are computed there.
        outputs: those of `results` that the model returns.
    """
    b = Builder()
    b.weights = {tensor.data_ptr(): name for name, tensor in weights.items()}
    (entry,) = (node for node in recorded.graph.nodes if node.op == "placeholder")
    b.names[entry] = source[0]
    if isinstance(entry.meta["shape"][source[1]], Images):
        b.images = b.add("Gather", [b.add("Shape", [source[0]]), b.constant([source[1]])])
    for node in recorded.graph.nodes:
        if node.op == "get_attr":
            b.constants[node] = recorded.attributes[node.target]
        elif node.op == "call_function":
            _emit(b, node)
    names = _named(b, source[0], results, outputs)
    nodes, used = _used(b.nodes, [names[name] for name in outputs])
    called = {value: name for name, value in names.items()}
    for node in nodes:  # in the file values have the names of `results`
        node.input[:] = [called.get(name, name) for name in node.input]
        node.output[:] = [called.get(name, name) for name in node.output]
    graph = helper.make_graph(
        nodes, "detector", [_info(source[0], entry)], [_info(name, results[name]) for name in outputs],
        [tensor for name, tensor in b.initializers.items() if name in used],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="spikesight")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def _emit(b: Builder, node: fx.Node) -> None:
    args, kwargs = node.meta["args"], dict(node.meta["kwargs"])
    if node.target is operator.getitem:
        where = b.constants if args[0] in b.constants else b.names
        where[node] = where[args[0]][args[1]]
        return
    leaves = tree_flatten((args, kwargs))[0]
    inputs = [leaf for leaf in leaves if isinstance(leaf, fx.Node)]
    op = name_of(node)
    if op in ("empty", "empty_like"):  # only written to, by `out`
        return
    if torch.Tag.nondeterministic_seeded in node.target.tags:  # type: ignore[union-attr]
        raise UserError(f"{op}: random numbers cannot be exported")
    if "out" in kwargs:
        del kwargs["out"]
    elif node.target._schema.is_mutable:  # type: ignore[union-attr]
        raise UserError(f"{op}: changes a tensor in place, which ONNX cannot: write the layer without it")
    if all(x in b.constants for x in inputs) and not any(isinstance(leaf, Images) for leaf in leaves):
        found = tree_map(lambda a: b.constants[a] if isinstance(a, fx.Node) else a, (args, kwargs))
        b.constants[node] = node.target(*found[0], **found[1])  # type: ignore[operator]
        return
    for table in (elementwise, layers, shapes):
        if (value := table.emit(b, op, node, args, kwargs)) is not None:
            b.names[node] = value
            return
    raise UserError(
        f"{node.target}: this operator has no form in ONNX here. Write the layer with other operators, or use "
        "--format torch, which keeps all of them"
    )


def _named(b: Builder, entry: str, results: Mapping[str, fx.Node], outputs: Sequence[str]) -> dict[str, str]:
    """{name in the file: value}, one name a value; outputs that are no value of their own get one by Identity."""
    found: dict[str, str] = {}
    for name, node in sorted(results.items(), key=lambda item: item[0] not in outputs):
        value = b.value(node)
        if value in (entry, *found.values()) or value in b.initializers:
            if name not in outputs:
                continue
            value = b.add("Identity", [value])
        found[name] = value
    return found


def _used(nodes: Sequence[onnx.NodeProto], wanted: Sequence[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that `wanted` values need, in order, and the names of all values they take."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1], needed


def _info(name: str, node: fx.Node) -> Any:
    sizes = ["images" if isinstance(size, Images) else size for size in node.meta["shape"]]
    return helper.make_tensor_value_info(name, onnx_type(node.meta["dtype"]), sizes)
