"""Spikes in int8 graphs: what a graph holds exactly, and what its rounding gives."""

from models.deploy.onnx_graph.grid import grids


def rounding_of_spikes(model):
    """{value on a grid: what its QuantizeLinear and DequantizeLinear make of it}, of a quantised model."""
    known = grids(model)
    integers = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    back = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {x: back[q] for q, x in integers.items() if x in known and known[x].exact and q in back}
