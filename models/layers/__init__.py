"""Layers that families share: SpikeConv, resampling, the time axis."""
