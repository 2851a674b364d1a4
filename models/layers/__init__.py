"""Layers shared by families: SpikeConv, pooling and upsampling, functions over the time axis, hooks."""
