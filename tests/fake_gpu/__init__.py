"""A CUDA card without a card; see README.md."""
