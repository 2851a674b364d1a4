"""Configs, loops, checkpoints, logs and evaluation: what train.py and evaluate.py are made of."""
