"""Spike degradation: layers of a spiking network that hardly fire, so that those behind them get no input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SILENT = 0.001  # firing rate below which a layer counts as silent


def silent_layers(rates: Mapping[str, float]) -> list[str]:
    """The layers of {layer: firing rate} that are silent, in the order of the network."""
    return [layer for layer, rate in rates.items() if rate < SILENT]


def silence_text(rates: Mapping[str, float], layers: Iterable[str]) -> str:
    """A warning about silent `layers`, by the rates of all spiking layers."""
    named = [f"{layer} ({100 * rates[layer]:.2g} %)" for layer in layers]
    shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return (
        f"{len(named)} of {len(rates)} spiking layers {'is' if len(named) == 1 else 'are'} silent, with firing rates "
        f"below {100 * SILENT:g} %: {shown}. Layers that read them get no spikes. If it stays so after the warm-up: "
        "train.fit_neurons=50, a lower v_threshold in model.neuron, or a gradient outside its window (outside: 0.1)"
    )
