"""Training and evaluation: configs, training loop, optimizer, checkpoints, run folders, logs."""
