"""Scenes of the mini world as pictures, masks, labels and captions; the things to personalize and the prompts."""
