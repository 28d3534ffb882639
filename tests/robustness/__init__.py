"""Nothing lost, nothing broken: faults, kills, bad input, long running."""
