"""What only a card shows: the same numbers as on the CPU, the speed, the memory. Run by scripts/gpu_check.py."""
