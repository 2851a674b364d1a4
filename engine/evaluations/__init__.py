"""The work of evaluate.py: what was asked for, what is run on which data, the passes, and the files written."""
