"""Time and memory of our trainings beside what one would use instead: python benchmarks/speed --help"""

SIZE_NAMES = ("tiny", "small", "medium", "sd15", "sd21-half", "sd21", "sd21-256", "sdxl-small", "sdxl")
"""Of the shapes in sizes.py, which cannot be read before torch is installed."""
