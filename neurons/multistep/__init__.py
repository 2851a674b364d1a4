"""Multi-step kernels: the dynamics of all neurons, computed for all T in one call."""
