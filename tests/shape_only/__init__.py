"""A GPU that computes nothing: what lies on it has shape, number format and device, but no numbers.

`card.ShapeOnlyCards` is the cards alone; `host.pretended_cards` has ComfyUI believe in them.
"""
