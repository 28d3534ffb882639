"""Time and memory of our trainings beside what one would use instead. See docs/speed.md."""
