"""Trained detectors in other forms: BatchNorm fused into convolutions, graded spikes as binary ones."""
