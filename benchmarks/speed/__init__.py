"""Time and memory of our trainings beside what one would use instead: python benchmarks/speed --help"""
