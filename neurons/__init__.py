"""Spiking neurons as SpikingJelly modules, [T, ...] in and out. Modules here are imported automatically."""

from registry import import_modules

from .base import DynamicNeuron, MultiStepNeuron
from .registry import NeuronSpec, build_neuron, list_neurons, neuron_factory, register_neuron
from .stream import Stream

__all__ = [
    "DynamicNeuron", "MultiStepNeuron", "NeuronSpec", "Stream", "build_neuron", "list_neurons", "neuron_factory",
    "register_neuron",
]  # fmt: skip

import_modules(__name__, __path__)
