"""Concept Images: a folder of photos as pictures, masks and captions for training."""
