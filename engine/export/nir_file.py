"""--format nir: a graph of NIR, read back from the file and replayed spike by spike beside the network."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.atomic_file import write_atomically
from models.registry import model_defaults
from neurons import DynamicNeuron
from registry import UserError

from ..runs.open import Run
from .options import ExportOptions


def write_nir(run: Run, out: Path, options: ExportOptions) -> None:
    """UserError with each layer that NIR cannot hold, and for a graph whose spikes are not those of the network."""
    options.refuse("nir", "batch", "raw", "binary", "int8", "images", "score", "split")
    try:
        import nir
    except ImportError as error:
        raise UserError('--format nir needs nir: pip install -e ".[export]"') from error
    from models.deploy.nir_graph import to_nir
    from models.deploy.nir_replay import compare_spikes

    if run.ann is not None:
        raise UserError(
            f"{run.checkpoint}: the neurons of a converted network have a soft reset, or emit -1, and NIR's do "
            "neither. Train a spiking network with a hard reset for NIR"
        )
    name = run.content["model_kwargs"]["name"]
    channels = run.content["model_kwargs"].get("in_channels", model_defaults(name)["in_channels"])
    height, width = options.size or run.input.size
    shape = channels, height, width
    model = copy.deepcopy(run.model)
    for neuron in model.modules():
        if isinstance(neuron, DynamicNeuron):
            neuron.backend = "torch"  # which need not be compiled for two calls
    exact = copy.deepcopy(model).double()
    x = _example(run, shape)
    in_float64 = compare_spikes(exact, to_nir(exact, shape, options.upto, dtype=np.float64), x)
    if in_float64.different:
        raise UserError(
            f"replayed from NIR, {in_float64.different} spikes differ in float64, the first in {in_float64.first}: "
            "nothing is written. Please report this network"
        )
    graph = to_nir(model, shape, options.upto)
    write_atomically(out, lambda partial: nir.write(partial, graph))
    in_float32 = compare_spikes(model, nir.read(out), x.float())
    print(
        f"{len(graph.nodes)} nodes, {in_float32.layers} layers of neurons, input {list(shape)}, one step in "
        f"{float(graph.metadata['dt']):g} s. Replayed on noise, T = {len(x)}: {in_float64.spikes} spikes, of which in "
        f"float64 {in_float64.different} differ from the network's, in float32, read from the file, "
        f"{in_float32.different}"
    )
    for output, node in graph.outputs.items():
        print(f"{output}: {node.metadata['layer']}, {list(map(int, node.output_type['output']))}")


def _example(run: Run, shape: tuple[int, int, int]) -> Tensor:
    """float64 [T, 1, C, H, W]: of images one of noise, shown for T steps, of events counts, in the mean 0.3."""
    generator = torch.Generator().manual_seed(0)
    steps = run.model.T
    if (run.content.get("input") or {}).get("kind") == "image":
        return torch.rand(1, 1, *shape, generator=generator, dtype=torch.float64).expand(steps, -1, -1, -1, -1)
    return torch.poisson(torch.full((steps, 1, *shape), 0.3, dtype=torch.float64), generator=generator)
