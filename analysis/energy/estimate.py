"""Estimate: the energy of a detector on samples. `result()` is what energy.json holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np

from models import Detector
from neurons.step import StepNeuron
from registry import UserError, none_of

from .constants import AC, ADDRESSING, MAC, MB, MEMORIES, MESSAGE_BITS, MESSAGES, PRECISIONS, Memory, Precision
from .counts import Columns, Counts
from .layer_facts import Facts
from .price import ann, graded, movement, papers, steps_of
from .rows import LAYERS, Row, rows_of
from .verdicts import verdicts

MILLIJOULE = 1e-9  # of a picojoule
SPIKING = ("int8", "fp32")  # precisions that are priced
FIGURES = ("synops", "papers_mJ", "movement_low_mJ", "movement_high_mJ")  # of each sample


class Estimate:
    """`with Estimate(detector) as estimate: detector(x)`, then `estimate.result()`.

    An estimate of energy from what fired, not a measurement. Spiking networks are priced in the form in which
    convolutions without a neuron between them are one; networks without spikes as they are run, which is cheaper.

    Args:
        model: a detector in evaluation mode, whose neurons may all be activations.
        memory: a rule of `MEMORIES`, for the figures of `total` and of each sample; `prices` has all rules.
    """

    def __init__(self, model: Detector, memory: str = "horowitz45"):
        if memory not in MEMORIES:
            raise UserError(none_of(f"memory = {memory!r}", memory, MEMORIES))
        self.memory, self.counts = MEMORIES[memory], Counts(model, self._of_batch)
        self._model = model
        self._of_samples: dict[str, list[float]] = {name: [] for name in FIGURES}

    def __enter__(self) -> Self:
        self.counts.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.counts.__exit__(*exception)

    def _rows(self, counted: list[tuple[Facts, Columns]]) -> list[Row]:
        real = {name: of_row.get("real", 0.0) > 0 for name, of_row in self.counts.totals_of.items()}
        return rows_of(self.counts, counted, real)

    def _of_batch(self, counted: list[tuple[Facts, Columns]], steps: int) -> None:
        for name, values in self._figures(_spiking_form(self._rows(counted)), counted, steps).items():
            self._of_samples[name] += values.tolist()

    def _figures(self, rows: list[Row], counted: list[tuple[Facts, Columns]], steps: float) -> dict[str, np.ndarray]:
        """`FIGURES` of each image of a batch, [B]."""
        images = len(next(iter(counted))[1]["runs"])
        figures = [
            sum(row["sop"] for row in rows),
            papers_of(rows, steps) * MILLIJOULE,
            *(
                sum(sum(movement(row, self.memory, PRECISIONS["int8"], reuse).values()) for row in rows) * MILLIJOULE
                for reuse in (True, False)
            ),
        ]
        return {
            name: np.broadcast_to(np.asarray(values, dtype=float), images)
            for name, values in zip(FIGURES, figures, strict=True)
        }

    def so_far(self, T: int) -> dict[str, float]:
        """Sums of `FIGURES` over the images of the batch whose simulation has come to step T."""
        counted, totals = self.counts.of_batch(), self.counts.totals_of
        real = {
            facts.name: totals.get(facts.name, {}).get("real", 0.0) + float(np.sum(columns.get("real", 0.0))) > 0
            for facts, columns in counted
        }
        rows = _spiking_form(rows_of(self.counts, counted, real))
        return {name: float(values.sum()) for name, values in self._figures(rows, counted, T).items()}

    def state(self) -> dict[str, Any]:
        """What the processes of an evaluation exchange."""
        return {"counts": self.counts.state(), "samples": self._of_samples}

    def merge(self, states: Iterable[dict[str, Any]]) -> None:
        """Replace what was counted by the total of `states`: the `state()` of all processes, this one's among them."""
        states = list(states)
        self.counts.merge_states(state["counts"] for state in states)
        self._of_samples = {name: [v for state in states for v in state["samples"][name]] for name in FIGURES}

    def result(self) -> dict[str, Any]:
        """Plain values. Energies of rows and of `prices` follow from `layers` and `constants` alone.

        UserError where nothing was counted.
        """
        rows = self._rows(self.counts.layers_counted())
        if not self.counts.images or not any(row["kind"] in LAYERS for row in rows):
            raise UserError("no convolution or linear layer has run, so there is nothing whose energy can be estimated")
        T, D, coding = self.counts.steps, self._levels(), self._coding()
        steps = self.counts.mean_steps
        for row in rows:
            if row["kind"] in LAYERS:
                row["rho"] = row["sop"] / row["mac_dense"] if row["mac_dense"] else 0.0
                row["rate"] = row["rho"] / (1 if row["part"] == "encoder" else steps * D)
            elif row["kind"] == "neuron":
                row["rate"] = row["theta_out"] / (row["updates"] * D) if row["updates"] else 0.0
        prices = {name: prices_of(rows, memory, T, D, steps) for name, memory in MEMORIES.items()}
        total = self._total(rows, prices[self.memory.name], T, D)
        return {
            "estimate": "from counts and published constants; not a measurement",
            "samples": self.counts.images,
            "T": T,
            "mean_T": steps,
            "D": D,
            "coding": coding,
            "total": total,
            "sd": {name: float(np.std(values)) for name, values in self._of_samples.items()},
            "verdicts": verdicts(rows, total, T, D),
            "prices": prices,
            "excluded": self._excluded(),
            "constants": constants(self.memory),
            "layers": [{k: plain(v) for k, v in row.items()} for row in rows],
            "of_samples": self._of_samples,
        }

    def _levels(self) -> int:
        """D, of the network's own neurons: with that of a memory's cells the rates of all others would look low."""
        spiking = [facts for facts in self.counts.facts.values() if facts.spiking and facts.part != "memory"]
        return max([1, *(facts.levels for facts in spiking)])

    def _coding(self) -> str:
        """thermometer: integers as so many unit spikes; binary; ternary; none of a network without spikes."""
        spiking = [facts for facts in self.counts.facts.values() if facts.kind == "neuron" and facts.spiking]
        if not spiking:
            return "none"
        if self._levels() > 1:
            return "thermometer"
        return "ternary" if any(facts.signed for facts in spiking) else "binary"

    def _total(self, rows: list[Row], prices: dict[str, Any], T: int, D: int) -> dict[str, Any]:
        own = _spiking_form(rows)
        layers = [row for row in own if row["kind"] in LAYERS]
        adding = [row for row in layers if row["input"] == "spikes"]
        dense = sum(row["mac_dense"] for row in adding)
        rho = sum(row["sop"] for row in adding) / dense if dense else 0.0
        once = [row for row in layers if row["input"] == "real" and row["part"] != "encoder"]
        return {
            "synops": sum(row["sop"] for row in layers),
            "macs": sum(row["macs"] for row in layers),
            "mac_dense": sum(row["mac_dense"] for row in _dense_form(rows) if row["kind"] in LAYERS),
            "mac_dense_merged": sum(row["mac_dense"] for row in layers),
            "additions": sum(row["additions"] for row in own),
            "neuron_updates": sum(row.get("updates", 0.0) for row in own),
            "spikes_per_synapse": rho,
            "rate": rho / (self.counts.mean_steps * D),
            "memory": self.memory.name,
            "papers_mJ": prices["papers"]["snn"],
            "papers_without_head_mJ": papers_of([r for r in own if r["part"] != "head"], self.counts.mean_steps)
            * MILLIJOULE,
            "papers_ann_mJ": prices["papers"]["ann"],
            "movement_mJ": prices["int8"]["snn"],
            "movement_fp32_mJ": prices["fp32"]["snn"],
            "twin_mJ": prices["int8"]["twin"],
            "twin_bits": twin_bits(T, D),
            "ann_int8_mJ": prices["int8"]["ann"],
            "ann_fp32_mJ": prices["fp32"]["ann"],
            "real_layers": {  # of the network and the head: papers count them in each step
                "macs": sum(row["macs"] for row in once),
                "macs_each_step": sum(row["mac_dense"] * steps_of(row, self.counts.mean_steps) for row in once),
            },
            "shares": {name: self._shares(own, PRECISIONS[name]) for name in SPIKING},
        }

    def _shares(self, rows: list[Row], precision: Precision) -> dict[str, float]:
        """Of the energy of data movement without reuse."""
        parts = [movement(row, self.memory, precision, False) for row in rows]
        energies = [sum(energy.values()) for energy in parts]
        whole = sum(energies)

        def share(chosen: Callable[[Row], bool]) -> float:
            return float(sum(e for row, e in zip(rows, energies, strict=True) if chosen(row)) / whole)

        large = [row["name"] for row in rows if row.get("weights", 0) * precision.weights / 8 > MB]
        return {
            "memory": float(sum(energy["memory"] for energy in parts) / whole),
            "head": share(lambda row: row["part"] == "head"),
            "neurons": share(lambda row: row["kind"] == "neuron"),
            "real_layers": share(lambda row: row.get("input") == "real"),
            "layers_above_1_MB": share(lambda row: row["name"] in large),
            "number_of_layers_above_1_MB": len(large),
        }

    def _excluded(self) -> list[str]:
        lines = [
            "sensor, transfer and scaling of the input",
            "decoding of boxes (DFL's softmax, exponentials) and non-maximum suppression, on a host",
            "routing of spikes between cores, control, clock, static power",
            "concatenations, crops and views, which are addresses",
        ]
        if any(facts.kind == "neuron" and not facts.spiking for facts in self.counts.facts.values()):
            lines.append("exponentials and divisions of activations (SiLU, sigmoid), of which one comparison counts")
        encoder: Any = self._model.encoder
        if any(True for _ in encoder.parameters()):
            lines.append("arithmetic of the learned sampler between its convolutions and spikes")
        cells = {type(n).__name__ for n in self._model.modules() if isinstance(n, StepNeuron)}
        if cells:
            lines.append(f"what a step of {', '.join(sorted(cells))} computes beyond one sum, its leak and its output")
        operations = self.counts.maps.excluded
        lines += [f"{name}: {n / self.counts.images:,.0f} elements per image" for name, n in operations.items()]
        return lines


def papers_of(rows: list[Row], steps: float) -> Any:
    """Picojoule of the rows of one form, by the rule of the papers."""
    return sum(papers(row, steps) for row in rows)


def prices_of(rows: list[Row], memory: Memory, T: int, D: int, mean_T: float) -> dict[str, Any]:
    """Millijoule per image, movement of data as [with reuse, without]:

    {"papers": {"snn", "ann"}, "int8": {"snn", "twin", "ann"}, "fp32": {"snn", "ann"}}, and with D > 1 of both
    precisions "snn_graded": integers as one message each.

    The ANN of the papers has the layers of the spiking form, as in SpikeYOLO's table; all others run the cheaper one.
    """
    own, dense = _spiking_form(rows), _dense_form(rows)
    twin = PRECISIONS["int8"].of_activations(twin_bits(T, D))

    def bounds(of: list[Row], rule: Any, precision: Precision) -> list[float]:
        both = (sum(sum(rule(row, memory, precision, reuse).values()) for row in of) for reuse in (True, False))
        return [float(energy) * MILLIJOULE for energy in both]

    dense_macs = sum(row["mac_dense"] for row in own if row["kind"] in LAYERS)
    found: dict[str, Any] = {"papers": {"snn": float(papers_of(own, mean_T)) * MILLIJOULE,
                                        "ann": dense_macs * MAC * MILLIJOULE}}  # fmt: skip
    for name in SPIKING:
        precision = PRECISIONS[name]
        found[name] = {"snn": bounds(own, movement, precision), "ann": bounds(dense, ann, precision)}
        if D > 1:
            integers = precision.of_activations(D.bit_length())
            found[name]["snn_graded"] = bounds([graded(row, D) for row in own], movement, integers)
    found["int8"]["twin"] = bounds(dense, ann, twin)
    return found


def twin_bits(T: int, D: int) -> int:
    """Bits of the activations of a quantised network without time that distinguish as many values as T steps of 0..D:
    ceil(log2(T D + 1)), and 16 above 8. Yan et al., arXiv 2409.08290."""
    bits = math.ceil(math.log2(T * D + 1))
    return bits if bits <= 8 else 16


def constants(memory: Memory) -> dict[str, Any]:
    """What the prices were made with, in pJ, and where it is from."""
    return {
        "papers": {"mac": MAC, "ac": AC, "source": "Horowitz, ISSCC 2014: float32, 45 nm, 0.9 V"},
        "precisions": {name: dataclasses.asdict(precision) for name, precision in PRECISIONS.items()},
        "precisions_source": "Horowitz, ISSCC 2014: 45 nm, 0.9 V; a multiplier in proportion to both its widths",
        "addressing": {"add": ADDRESSING.add, "multiply": ADDRESSING.multiply},
        "messages": {"words": MESSAGES, "bits": MESSAGE_BITS, "source": "Lemaire et al., ICONIP 2022"},
        "memory": memory.name,
        "memories": {name: rule.source for name, rule in MEMORIES.items()},
    }


def _spiking_form(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["form"] != "as run"]


def _dense_form(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["form"] != "merged"]


def plain(value: Any) -> Any:
    """A number of NumPy as Python's."""
    return value.item() if isinstance(value, np.generic) else value
