"""Prices: the energy of rows, by the rule of the papers and with the movement of data; of networks without spikes too.

Energies are in picojoule. Quantities of rows may be arrays, of which each entry is one image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .constants import AC, ADDRESSING, MAC, MESSAGE_BITS, MESSAGES, Memory, Precision
from .rows import LAYERS, Row

Parts = dict[str, Any]  # {component: energy}


def papers(row: Row, steps: float) -> Any:
    """As in the papers on spiking detectors: 0.9 pJ x multiply-accumulates x mean input for spikes, all steps together,
    and 4.6 pJ per multiply-accumulate of a layer with a real input, in each of the steps.

    EMS-YOLO (ICCV 2023, equation 6) and SpikeYOLO (ECCV 2024); kernels beyond the border count, memory, neurons, sums
    and biases do not.
    """
    if row["kind"] not in LAYERS:
        return 0.0
    if row["input"] == "spikes":
        return row["mac_dense"] / row["maps"] * row["theta"] / row["inputs"] * AC
    return row["mac_dense"] * steps_of(row, steps) * MAC


def steps_of(row: Row, steps: float) -> float:
    """How often papers count a layer: an encoder's once."""
    return 1 if row["part"] == "encoder" else steps


def movement(row: Row, memory: Memory, precision: Precision, reuse: bool) -> Parts:
    """Energy of a row of a spiking network: {operations, addressing, comparisons, memory}.

    Lemaire et al., "An Analytical Estimation of Spiking Neural Networks Energy Efficiency", ICONIP 2022. reuse: weights
    are read once per layer and step, sums and membranes read and written once per step; without, for every addition.
    Integers are as many unit spikes; see `graded`.
    """
    if row["kind"] in LAYERS:
        of_layer = _spikes if row["input"] == "spikes" else _real
        return of_layer(row, memory, precision, reuse)
    energy = _operations(row, precision)
    if row["kind"] == "neuron":
        word = memory.access(row["outputs"], precision.membranes)
        energy["memory"] = (row["current"] + 2 * row["membrane"]) * word
        if row["output"] == "spikes":
            energy["memory"] += row["theta_out"] * memory.access(MESSAGES, MESSAGE_BITS)
        else:
            energy["memory"] += row["updates"] * memory.access(row["outputs"], precision.activations)
    else:
        energy["memory"] = _moved(row, memory, precision.membranes, reuse)
    return energy


def ann(row: Row, memory: Memory, precision: Precision, reuse: bool) -> Parts:
    """Energy of the row in one pass of the network without spikes that has the same layers.

    reuse: every input, weight and output is read or written once.
    """
    if row["kind"] in LAYERS:
        return _dense(row, row["mac_dense"], row["maps"], memory, precision, reuse)
    runs = np.maximum(row["runs"], 1)
    if row["kind"] == "neuron":  # an activation, of a value that is at hand
        return _parts(comparisons=row["outputs"] * precision.add)
    energy = _operations(row, precision)
    energy["memory"] = _moved(row, memory, precision.activations, reuse)
    return {key: value / runs for key, value in energy.items()}


def graded(row: Row, levels: int) -> Row:
    """A layer or neuron of spikes whose integers are one message each, with a multiplication in place of additions, as
    Loihi 2 sends them: the row to be priced at `Precision.of_activations(bits of an integer)`."""
    if levels <= 1:
        return row
    if row["kind"] == "neuron" and row["output"] == "spikes":  # each is written, and subtracted from its membrane, once
        reset = row["theta_out"] - row["messages_out"] if row["memory"] else 0.0
        return row | {"theta_out": row["messages_out"], "additions": row["additions"] - reset}
    if row["kind"] not in LAYERS or row["input"] != "spikes":
        return row
    bias = row["additions"] - row["sop"]
    macs = row["graded_macs"]
    return row | {"theta": row["messages"], "sop": macs, "additions": bias + macs, "multiplications": macs}


def _parts(operations: Any = 0.0, addressing: Any = 0.0, comparisons: Any = 0.0, memory: Any = 0.0) -> Parts:
    return {"operations": operations, "addressing": addressing, "comparisons": comparisons, "memory": memory}


def _operations(row: Row, precision: Precision) -> Parts:
    work = row["additions"] * precision.add + row["macs"] * precision.mac
    return _parts(operations=work, comparisons=row["comparisons"] * precision.add)


def _spikes(row: Row, memory: Memory, precision: Precision, reuse: bool) -> Parts:
    sop, theta, bias = row["sop"], row["theta"], row["additions"] - row["sop"]
    fan_out = row["fan_out"] if memory.fan_out or row["kind"] == "linear" else 1
    energy = _parts(
        operations=row["additions"] * precision.add + row.get("multiplications", 0.0) * precision.multiply,
        addressing=2 * theta * ADDRESSING.mac + theta * row["taps"] * fan_out * ADDRESSING.add,
    )
    weights = np.minimum(sop, row["runs"] * row["weights"]) if reuse else sop
    biases = row["runs"] * row["biases"] if reuse else bias
    sums = np.minimum(sop + bias, row["runs"] * row["outputs"]) if reuse else sop + bias
    energy["memory"] = (
        theta * memory.access(MESSAGES, MESSAGE_BITS)
        + _parameters(row, weights, biases, memory, precision)
        + 2 * sums * memory.access(row["outputs"], precision.membranes)
    )
    return energy


def _real(row: Row, memory: Memory, precision: Precision, reuse: bool) -> Parts:
    passes = row["macs"] / np.maximum(row["mac_dense"], 1) * row["maps"]
    return _dense(row, row["macs"], passes, memory, precision, reuse)


def _dense(row: Row, macs: Any, passes: Any, memory: Memory, precision: Precision, reuse: bool) -> Parts:
    outputs = row["outputs"] * passes
    addresses = (row["inputs"] + row["outputs"] + row["shape"][0] * row["taps"]) * passes
    weights = row["weights"] * passes if reuse else macs
    biases = row["biases"] * passes if reuse else outputs * (row["biases"] > 0)
    return _parts(
        operations=macs * precision.mac + outputs * precision.add,
        addressing=addresses * ADDRESSING.add,
        memory=(row["inputs"] * passes if reuse else macs) * memory.access(row["inputs"], precision.activations)
        + _parameters(row, weights, biases, memory, precision)
        + outputs * memory.access(row["outputs"], precision.activations),
    )


def _parameters(row: Row, weights: Any, biases: Any, memory: Memory, precision: Precision) -> Any:
    """Of reading so many weights and biases."""
    if memory.shared:
        return (weights + biases) * memory.access(row["weights"] + row["biases"], precision.weights)
    of_weights, of_biases = (memory.access(row[key], precision.weights) for key in ("weights", "biases"))
    return weights * of_weights + biases * of_biases


def _moved(row: Row, memory: Memory, bits: int, reuse: bool) -> Any:
    reads = row["reads_once"] if reuse else row["reads"]
    return reads * memory.access(row["inputs"], bits) + row["writes"] * memory.access(row["outputs"], bits)
