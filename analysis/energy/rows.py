"""Rows: of each layer what it computes, reads and writes, from counts. What energy.json holds, and all prices need."""

from __future__ import annotations

from typing import Any

import numpy as np

from .counts import Columns, Counts
from .layer_facts import Facts

LAYERS = ("convolution", "linear")
# What every row has: 0 where it means nothing.
EVERY = (
    "mac_dense", "sop", "theta", "theta_out", "rho", "rate", "additions", "macs", "reads", "writes", "weight_bytes",
)  # fmt: skip
Row = dict[str, Any]  # quantities are per image, all steps together: numbers, or arrays [B] of the images of a batch


def rows_of(counts: Counts, counted: list[tuple[Facts, Columns]], real: dict[str, bool]) -> list[Row]:
    """All rows in the order in which they run. `form` is "merged" for a layer that stands for several as they are run,
    "as run" for those, and "" for all others. real: {row: whether its input, or output, has been other than spikes}."""
    rows = []
    for facts, columns in counted:
        if facts.kind in LAYERS:
            row = _layer(facts, columns, real[facts.name], counts.has_bias(facts))
        elif facts.kind == "neuron":
            row = _neuron(facts, columns, real[facts.name], counts.in_place(facts.name))
        else:
            row = _map(facts, columns)
        rows.append(_general(facts, columns["runs"]) | {"form": counts.form(facts)} | row)
    return rows


def _general(facts: Facts, runs: Any) -> Row:
    shape = list(facts.shape)
    row = {"name": facts.name, "kind": facts.kind, "part": facts.part, "shape": shape, "runs": runs}
    return row | dict.fromkeys(EVERY, 0.0)


def _layer(facts: Facts, columns: Columns, real: bool, has_bias: bool) -> Row:
    """Equations of Lemaire et al., generalised: additions are those inside the border, and integers and ternary spikes
    count with their magnitude."""
    channels = facts.shape[0]
    bias = columns["runs"] * facts.outputs * has_bias
    row = {
        "input": "real" if real else "spikes",
        "inputs": facts.inputs, "outputs": facts.outputs, "weights": facts.weights,
        "biases": channels if has_bias else 0, "taps": facts.taps, "fan_out": facts.fan_out,
        "mac_dense": columns["dense_macs"], "maps": columns["runs"] if facts.part == "encoder" else 1.0,
        "weight_bytes": 4 * facts.weights,
    }  # fmt: skip
    if real:
        macs = columns["macs"]
        return row | {
            "theta": 0.0, "messages": 0.0, "sop": 0.0, "graded_macs": 0.0, "macs": macs, "additions": bias,
            "reads": 2 * macs + bias, "writes": bias,
        }  # fmt: skip
    sop, theta = columns["synops"], columns["theta"]
    return row | {
        "theta": theta, "messages": columns["messages"], "sop": sop, "graded_macs": columns["graded_macs"],
        "macs": 0.0, "additions": sop + bias, "reads": theta + sop + bias + (sop + bias), "writes": sop + bias,
    }  # fmt: skip


def _neuron(facts: Facts, columns: Columns, real: bool, in_place: bool) -> Row:
    """What a neuron adds to the layers around it.

    in_place: a convolution's sums are its membrane, whose accesses are that layer's. Otherwise it reads its current,
    and adds it to a membrane that it reads and writes in each step. At T = 1 there is no membrane to keep,
    unless a stream carries it on.
    """
    updates, runs = columns["updates"], columns["runs"]
    memory = facts.memory and (float(np.max(runs)) > 1 or float(np.max(columns["carried"])) > 0)
    own = memory and not in_place
    emitted = updates if real else columns["theta_out"]
    return {
        "messages_out": 0.0 if real else columns["messages_out"],
        "output": "real" if real else "spikes", "in_place": in_place, "leak": facts.leak if memory else "none",
        "memory": memory, "outputs": facts.outputs, "updates": updates, "theta_out": 0.0 if real else emitted,
        "additions": (updates if own else 0.0)
        + (columns["theta_out"] if memory and not real else 0.0)  # the reset
        + (updates if memory and facts.leak == "shift" else 0.0),
        "macs": updates if memory and facts.leak == "multiply" else 0.0,
        "comparisons": updates * (1 + int(facts.signed) if facts.levels <= 1 else int(facts.levels).bit_length()),
        "current": 0.0 if in_place else updates, "membrane": updates if own else 0.0,
        "reads": (0.0 if in_place else updates) + (updates if own else 0.0),
        "writes": emitted + (updates if own else 0.0),
    }  # fmt: skip


def _map(facts: Facts, columns: Columns) -> Row:
    keys = "additions", "comparisons", "macs", "reads", "reads_once", "writes"
    return {"inputs": facts.inputs, "outputs": facts.outputs} | {key: columns[key] for key in keys}
