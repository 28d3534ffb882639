"""Embeddings that differ by the U-Net's layer (P+) and by the timestep (NeTI)."""
