"""On a CUDA card, real or pretended (tests/fake_gpu)."""
