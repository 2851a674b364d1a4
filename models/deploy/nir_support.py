"""What of a network NIR can hold: where its graph is cut, and why a network does not go."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from registry import UserError, none_of


class Unsupported(Exception):
    """What NIR has no node for, and why."""


def cut(graph: fx.GraphModule, upto: str | None) -> list[fx.Node]:
    """The nodes whose values leave the graph: what the module `upto` gives to others, or the layers of the logits.

    Behind the mean over T only the last convolutions count: what follows them, in the heads, arranges numbers."""
    if upto is None:
        (output,) = (node for node in graph.graph.nodes if node.op == "output")
        return list(dict.fromkeys(_last_layers(output)))
    names = {name for node in graph.graph.nodes for name in modules_of(node)}
    if upto not in names:
        near = sorted(name for name in names if name.count(".") == upto.count(".")) or sorted(names)
        raise UserError(none_of(f"upto = {upto!r}, which is no layer of this network", upto, near))
    inside = [node for node in graph.graph.nodes if upto in modules_of(node) and node.meta["kind"] != "shape"]
    return [node for node in inside if any(upto not in modules_of(user) for user in node.users)]


def modules_of(node: fx.Node) -> list[str]:
    """The modules in whose code a node is, the outermost first."""
    return list(node.meta.get("nn_module_stack", {}))


def _last_layers(node: fx.Node) -> list[fx.Node]:
    if node.meta["kind"] not in ("output", "after"):
        return [node]
    return [found for x in node.all_input_nodes for found in _last_layers(x)]


def explain(graph: fx.GraphModule, problems: Mapping[fx.Node, str]) -> str:
    """Each reason with the first layer it applies to, and the last module before all of them."""
    reasons: dict[str, list[str]] = {}
    for node, reason in problems.items():
        where = modules_of(node)[-1] if modules_of(node) else node.name
        if where != node.name and "." not in str(node.target):  # a function that the module's code calls
            where += f" ({node.name})"
        reasons.setdefault(reason, []).append(where)
    lines = []
    for reason, layers in reasons.items():
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        lines.append(f"  {layers[0]}{more}: {reason}")
    text = "NIR has no nodes for this network:\n" + "\n".join(lines)
    last = _last_before(graph, next(iter(problems)))
    return text if last is None else f"{text}\nThe layers before the first of them can be exported: --upto {last}"


def _last_before(graph: fx.GraphModule, stop: fx.Node) -> str | None:
    """The outermost module that ends last before the node `stop`, if there is a neuron until then."""
    nodes = list(graph.graph.nodes)
    before, rest = nodes[: nodes.index(stop)], nodes[nodes.index(stop) :]
    if not any(node.meta["kind"] == "activation" for node in before):
        return None
    open_ones = {name for node in rest for name in modules_of(node)}
    for node in reversed(before):
        for name in modules_of(node):
            if name not in open_ones:
                return name
    return None
