"""A small world of pictures that can be drawn without end: ten kinds of things, eight places, and their captions."""
