"""What a prompt does: Context Attention Probe, Attention Maps, Context Similarity."""
