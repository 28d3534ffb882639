"""Parts of a picture that scores look at, the rest being black. Pictures [3, H, W] and masks [H, W], both in 0…1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

INSIDE = 0.5
"""From this value of its mask on, a pixel counts to the subject's bounding box."""


def foreground(picture: Tensor, mask: Tensor) -> Tensor:
    """The picture with its background black (CoRe's evaluation setup: foreground-masked images)."""
    return picture * mask


def non_subject_segment(picture: Tensor, mask: Tensor) -> Tensor:
    """The picture with its subject black (SID, Eq. 2)."""
    return picture * (1 - mask)


def subject_segment(picture: Tensor, mask: Tensor) -> Tensor:
    """The subject alone, centred on the smallest black square that holds it, [3, S, S] (SID, Appendix A).

    An encoder's preprocessing resizes the square to its input, and so brings every subject to one size.
    Raises ValueError when no pixel of the mask reaches `INSIDE`.
    """
    rows, columns = (torch.nonzero((mask >= INSIDE).any(dim=dim)).flatten().tolist() for dim in (1, 0))
    if not rows:
        raise ValueError(f"mask: none of its pixels reaches {INSIDE}; paint the subject white.")
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cut = foreground(picture, mask)[:, top:bottom, left:right]
    height, width = bottom - top, right - left
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    return pad(cut, (before, side - width - before, above, side - height - above))
