"""A space-time embedding from the tensors of a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .layer_vectors import LayerVectors
from .neural_mapper import ANCHORS, FREQUENCIES, NeuralMapper
from .space_time_embedding import PREFIX, SpaceTimeEmbedding

MOST_LAYERS = 100
LARGEST_SIDE = max(2 * FREQUENCIES, ANCHORS * MOST_LAYERS)
"""Of a network's matrices, but for its outputs."""


def own_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of a space-time embedding."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}


def read_space_time(tensors: Mapping[str, Tensor], vectors: Mapping[str, Tensor]) -> SpaceTimeEmbedding | None:
    """None where a file has none. vectors: of its plain embedding, [V, width] per encoder.

    Raises ValueError where its tensors are not those of one kind, of these encoders, and of sane size.
    """
    own = own_tensors(tensors)
    if not own:
        return None
    widths = {name: each.shape[-1] for name, each in vectors.items()}
    outputs = 2 * sum(each.numel() for each in vectors.values())
    try:
        if max(max(tensor.shape, default=1) for tensor in own.values()) > max(outputs, LARGEST_SIDE):
            raise ValueError("a tensor is too large")
        layered = all(name.startswith(f"{PREFIX}vectors.") for name in own)
        read = LayerVectors.read(own) if layered else NeuralMapper.read(own, widths)
        again = read.tensors()
        fitting = {name: each.shape for name, each in read.snapshot().items()} == {
            name: each.shape for name, each in vectors.items()
        }
        if again.keys() != own.keys() or not fitting or not 0 < read.layers <= MOST_LAYERS:
            raise ValueError("its tensors do not fit each other")
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"file: its embedding by layers is damaged ({error}); get it anew.") from error
    return read
