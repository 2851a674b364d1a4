"""Run folders: what a run writes, checkpoints, resuming, where a score comes from."""
