"""Spiking neurons as SpikingJelly modules, [T, ...] in and out. Modules here are imported automatically."""

from registry import import_modules

from .base import DynamicNeuron, MultiStepNeuron, StatefulNeuron
from .registry import NeuronSpec, build_neuron, list_neurons, neuron_factory, register_neuron
from .step import StepNeuron
from .stream import Stream
from .surrogate import spike

__all__ = [
    "DynamicNeuron", "MultiStepNeuron", "NeuronSpec", "StatefulNeuron", "StepNeuron", "Stream", "build_neuron",
    "list_neurons", "neuron_factory", "register_neuron", "spike",
]  # fmt: skip

import_modules(__name__, __path__)
