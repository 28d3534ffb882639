"""What an IMAGE socket brings, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..core_ops.pictures import validate_pictures


def single_pictures(name: str, images: Sequence[Tensor]) -> list[Tensor]:
    """The pictures [H, W, C] in fp32 of batches [b, H, W, C] of any sizes.

    Raises ValueError, beginning with the input's name, when there is none, or one cannot be used.
    """
    pictures = [picture for batch in images for picture in batch.float()]
    if not pictures:
        raise ValueError(f"{name}: none came; connect at least one picture.")
    validate_pictures(name, pictures)
    return pictures
