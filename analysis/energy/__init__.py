"""Energy of a network: what it counts on samples, and what these counts cost by several published rules."""
