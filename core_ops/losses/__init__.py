"""The papers' loss terms, each citing its equation: tensors in, a scalar out. They know nothing of this project."""
