"""Spiking neurons as SpikingJelly modules, [T, ...] in and out. Every file here that registers a neuron is found."""

import importlib
import pkgutil

from .base import DynamicNeuron, MultiStepNeuron
from .registry import NeuronSpec, build_neuron, list_neurons, neuron_factory, register_neuron
from .stream import Stream

__all__ = [
    "DynamicNeuron", "MultiStepNeuron", "NeuronSpec", "Stream", "build_neuron", "list_neurons", "neuron_factory",
    "register_neuron",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
