"""Every family under one schedule, in one table: `python -m tools.zoo`, or `make zoo`."""
