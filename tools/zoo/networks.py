"""Which networks the zoo trains: of each family a direct network and its ANN twin, and ANNs that are converted."""

from __future__ import annotations

from dataclasses import dataclass

QUARTER = "model.args={width: 0.25}"
EAS = "model.args={width: 0.25, spiking: backbone, sampler: {name: arsnn, k: 5, depth: 2, rpd: true, sat: true}}"
YOLOX = "model.args={width: 0.25, spike_stages: full, block: ffc}"
MICRO_BINS = ("data.args.num_steps=1", "data.args.representation={name: micro_bins, bins: 4}")
DIRECT, TWIN, ANN, CONVERTED = "direct", "ANN twin", "ANN", "converted"


@dataclass(frozen=True)
class Network:
    """A row of the table, and of an ANN that is converted a second one.

    name: of its run folder. data: configs/zoo/DATA.yaml. neuron: what the table says. overrides: of train.py. convert:
    arguments of convert.py; None: it is not converted.
    """

    name: str
    data: str
    family: str
    neuron: str
    kind: str
    overrides: tuple[str, ...]
    convert: tuple[str, ...] | None = None


def _direct(data: str, short: str, family: str, neuron: str, *overrides: str) -> list[Network]:
    """A direct network and its twin."""
    overrides = (f"model.name={family}", *overrides)
    return [
        Network(f"{data}_{short}", data, family, neuron, DIRECT, overrides),
        Network(f"{data}_{short}_twin", data, family, "SiLU", TWIN, (*overrides, "model.neuron=silu")),
    ]


def _converted(short: str, family: str, neuron: str, *overrides: str, convert: tuple[str, ...] = ()) -> Network:
    return Network(f"images_{short}", "images", family, neuron, ANN, (f"model.name={family}", *overrides), convert)


def networks() -> list[Network]:
    found = []
    for data in ("events", "images"):
        found += _direct(data, "ems", "ems_resnet10_ee", "LIF", QUARTER, "model.T=4")
        found += _direct(data, "spikeyolo", "spikeyolo_n", "I-LIF", QUARTER, "model.T=1")
        if data == "events":  # samplers are for events alone
            found += _direct(data, "eas", "eas_snn_s", "PLIF", EAS, "model.T=3", *MICRO_BINS)
        found += _direct(data, "yolox", "spiking_yolox_s", "ternary IF", YOLOX, "model.T=2", "model.neuron=ternary_if")
    signed = ("--neuron", "corrected_if", "--v-init", "0.5")
    return [
        *found,
        _converted("syolo", "spiking_yolo", "leaky ReLU", QUARTER),
        _converted("syolov3", "spiking_yolov3", "ReLU", QUARTER),
        _converted("syolov3_fc", "spiking_yolov3_fc", "QCFS, L = 32", QUARTER, "model.neuron={name: qcfs, L: 32}"),
        _converted("threshold", "double_threshold_tiny", "STH", QUARTER),
        _converted("ems_relu", "ems_resnet10_ee", "ReLU", QUARTER, "model.T=1", "model.neuron=relu", convert=signed),
        _converted("spikeyolo_relu", "spikeyolo_n", "ReLU", QUARTER, "model.T=1", "model.neuron=relu", convert=signed),
    ]
