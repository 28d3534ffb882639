"""The three networks of a Stable Diffusion 1.5 checkpoint, the judge, and their weights in 8 bits."""
