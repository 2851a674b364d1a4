"""Energy constants with their sources, in picojoule: arithmetic, and four published rules for an access to memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAC, AC = 4.6, 0.9  # what papers on spiking networks use: float32 at 45 nm, 0.9 V (Horowitz, ISSCC 2014)

KB, MB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Precision:
    """Widths of stored numbers in bits, and energies of arithmetic on them. Horowitz, "Computing's energy problem (and
    what we can do about it)", ISSCC 2014, 45 nm.

    weights, activations: of a network without spikes
    membranes: membrane potentials and the sums of convolutions
    """

    name: str
    weights: int
    activations: int
    membranes: int
    add: float
    multiply: float

    @property
    def mac(self) -> float:
        return self.add + self.multiply

    def of_activations(self, bits: int) -> Precision:
        """The same with activations of `bits` bits. The energy of a multiplier is proportional to the product of its
        widths, as of the 8 and 32 bits that were measured (0.2 and 3.1 pJ)."""
        multiply = self.multiply * bits / self.activations
        return Precision(f"{self.name}, {bits} bit", self.weights, bits, self.membranes, self.add, multiply)


PRECISIONS = {
    "fp32": Precision("fp32", 32, 32, 32, add=0.9, multiply=3.7),
    "int32": Precision("int32", 32, 32, 32, add=0.1, multiply=3.1),
    "int8": Precision("int8", 8, 8, 16, add=0.03, multiply=0.2),
}


@dataclass(frozen=True)
class Memory:
    """A rule for the energy of one access.

    access:     (number of words in the memory, bits of a word) -> pJ per word
    fan_out:    whether the addressing of a spike adds once per output channel (equation 16.3 of Lemaire et al., and
                SpikingJelly), or once per tap of the kernel (Qualia)
    shared:     whether weights and biases are in one memory
    """

    name: str
    source: str
    access: Callable[[float, int], float]
    fan_out: bool = False
    shared: bool = False


def _horowitz(words: float, bits: int) -> float:
    size = words * bits / 8
    per_64_bits = 10.0 if size <= 8 * KB else 20.0 if size <= 32 * KB else 100.0 if size <= MB else 1300.0
    return per_64_bits * bits / 64


def _qualia(words: float, bits: int) -> float:
    return 1.09e-5 * words * bits + 13.2


def _spikingjelly(words: float, bits: int) -> float:
    size, points = min(words * bits / 8, MB), [(0, 0.0), (8 * KB, 2.5), (32 * KB, 5.0), (MB, 25.0)]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if size <= x1:
            return (y0 + (y1 - y0) * (size - x0) / (x1 - x0)) * bits / 8
    raise AssertionError(size)


MEMORIES = {
    "horowitz45": Memory(
        "horowitz45",
        "Horowitz, ISSCC 2014, 45 nm: 64 bits from a cache of 8 KB 10 pJ, 32 KB 20 pJ, 1 MB 100 pJ; larger memories "
        "are DRAM, 1300 pJ (the lower end of 1300 to 2600)",
        _horowitz,
    ),
    "qualia": Memory(
        "qualia", "Lemaire et al., ICONIP 2022, as their code Qualia has it: 1.09e-5 pJ x bits of the memory + 13.2 pJ "
        "per access, of SRAM of any size", _qualia,
    ),
    "spikingjelly": Memory(
        "spikingjelly", "SpikingJelly 2.0, estimate_lemaire_energy: per byte linear between 0 at 0 bytes, 2.5 pJ at 8 "
        "KB, 5 at 32 KB and 25 at 1 MB, and 25 above", _spikingjelly, fan_out=True, shared=True,
    ),
    "flat": Memory("flat", "STEP, NeurIPS 2025: 3.12 pJ per bit of any memory", lambda words, bits: 3.12 * bits),
}  # fmt: skip

ADDRESSING = PRECISIONS["int32"]  # of all networks
MESSAGES, MESSAGE_BITS = 1000, 32  # of the queues between layers: Lemaire et al.
