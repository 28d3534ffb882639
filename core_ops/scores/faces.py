"""Faces found in a picture, and brought to where a recogniser expects them, as InsightFace's models take them.

SCRFD (Guo et al. 2021, arXiv 2105.04714) gives a score, a box and five points (eyes, nose, corners of the mouth) for
two anchors in each cell of three grids. ArcFace (Deng et al. 2019, arXiv 1801.07698) reads faces with these points at
fixed places.
K faces, S the side of a square; pictures [3, H, W] in 0…255.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

STRIDES = (8, 16, 32)
"""Pixels per cell of the detector's grids."""
OUTPUTS = 3 * len(STRIDES)
ANCHORS = 2
FACE_SCORE, OVERLAP = 0.5, 0.4
"""From this score on there is a face; of two boxes that overlap more, the better one is kept (InsightFace's values)."""
FACE_SIDE = 112
FACE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
"""Where the five points, (x, y), lie in a square of `FACE_SIDE` (InsightFace)."""


def fitted(picture: Tensor, side: int) -> tuple[Tensor, float]:
    """The picture in the upper left of a black square [3, S, S] as large as fits; and its pixels there per own one."""
    height, width = picture.shape[-2:]
    scale = side / max(height, width)
    size = [max(1, int(height * scale)), max(1, int(width * scale))]
    shown = interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    return pad(shown, (0, side - size[1], 0, side - size[0])), size[0] / height


def decoded(outputs: Sequence[Tensor], side: int) -> Tensor:
    """[K, 15]: per face its score, its box (left, top, right, bottom) and its points, in pixels of a square.

    outputs: three kinds (score, box, points) of each grid, with a row per anchor: [S² / stride² · 2, 1, 4 or 10].
    """
    grids = []
    for level, stride in enumerate(STRIDES):
        score, box, points = (
            outputs[level + len(STRIDES) * kind].reshape(-1, columns) for kind, columns in enumerate((1, 4, 10))
        )
        places = torch.arange(side // stride) * stride
        centres = torch.cartesian_prod(places, places).flip(-1).repeat_interleave(ANCHORS, dim=0)  # [rows, 2], (x, y)
        box = centres.repeat(1, 2) + box * torch.tensor([-stride, -stride, stride, stride])
        grids.append(torch.cat([score, box, centres.repeat(1, 5) + points * stride], dim=1))
    found = torch.cat(grids)
    return found[found[:, 0] >= FACE_SCORE]


def distinct(faces: Tensor) -> Tensor:
    """Of faces [K, 15] each once: the best first, and none that overlaps with a better one."""
    left = faces[faces[:, 0].argsort(descending=True, stable=True)]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][_overlap(left[0, 1:5], left[1:, 1:5]) <= OVERLAP]
    return torch.stack(kept) if kept else left


def largest_points(faces: Tensor) -> Tensor:
    """[5, 2]: the points of the face [K, 15] that covers most of the picture."""
    return faces[_area(faces[:, 1:5]).argmax(), 5:].reshape(5, 2)


def aligned(picture: Tensor, points: Tensor) -> Tensor:
    """The face with these points [5, 2] turned, scaled and moved to lie nearest to `FACE_POINTS`, [3, 112, 112].

    With points as complex numbers that is w = a·z + b by least squares (Umeyama 1991, without reflection).
    """
    places = torch.tensor(FACE_POINTS, dtype=torch.float64)
    seen, wanted = (torch.view_as_complex(each.double().contiguous()) for each in (points, places))
    offsets, goals = seen - seen.mean(), wanted - wanted.mean()
    turn = (offsets.conj() * goals).sum() / offsets.abs().square().sum()
    side = torch.arange(FACE_SIDE, dtype=torch.float64)
    target = torch.complex(*torch.meshgrid(side, side, indexing="xy"))
    source = torch.view_as_real((target - wanted.mean()) / turn + seen.mean())
    height, width = picture.shape[-2:]
    grid = 2 * source / torch.tensor([width - 1, height - 1]) - 1
    return grid_sample(picture[None], grid[None].to(picture.dtype), align_corners=True)[0]


def _area(boxes: Tensor) -> Tensor:
    """Of boxes [..., 4]; of one that is inside out, 0."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of a box [4] with others [K, 4], [K]."""
    common = torch.cat([torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])], dim=1)
    shared = _area(common)
    return shared / (_area(box) + _area(boxes) - shared).clamp(min=1e-9)
