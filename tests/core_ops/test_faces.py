"""Faces found and aligned: properties, a detector's outputs made by hand, and Umeyama's transformation with scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_personalization.core_ops.scores import faces
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

SIDE = 128


def empty_outputs() -> list[torch.Tensor]:
    """What a detector gives of a square of 128 pixels without any face."""
    rows = [2 * (SIDE // stride) ** 2 for stride in faces.STRIDES]
    return [torch.zeros(count, columns) for columns in (1, 4, 10) for count in rows]


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("anchor", range(2))
def test_what_a_cell_says_is_decoded(level, anchor):
    stride, outputs = faces.STRIDES[level], empty_outputs()
    row, column = 1, 3
    index = (row * (SIDE // stride) + column) * 2 + anchor
    outputs[level][index] = 0.5
    outputs[level + 3][index] = torch.tensor([1.0, 0.5, 2.0, 3.0])
    outputs[level + 6][index] = torch.arange(10.0)
    found = faces.decoded(outputs, SIDE)
    x, y = column * stride, row * stride
    box = [x - stride, y - stride / 2, x + 2 * stride, y + 3 * stride]
    points = [(x, y)[i % 2] + i * stride for i in range(10)]
    assert found.tolist() == [[0.5, *box, *points]]


def test_a_low_score_is_no_face():
    outputs = empty_outputs()
    outputs[0][7] = 0.49
    assert faces.decoded(outputs, SIDE).shape == (0, 15)


def face(score: float, *box: float) -> torch.Tensor:
    return torch.tensor([score, *box, *range(10)], dtype=torch.float32)


def test_of_boxes_that_overlap_the_better_one_is_kept():
    better, worse, apart = face(0.9, 0, 0, 10, 10), face(0.6, 1, 1, 11, 11), face(0.7, 30, 0, 45, 15)
    found = faces.distinct(torch.stack([worse, apart, better]))
    assert found.tolist() == torch.stack([better, apart]).tolist()
    assert faces.distinct(found).tolist() == found.tolist()
    inside_out = face(0.9, 10, 10, 0, 0)
    assert len(faces.distinct(torch.stack([inside_out, inside_out]))) == 2
    assert faces.distinct(torch.zeros(0, 15)).shape == (0, 15)


def test_the_largest_face_is_taken():
    small, large = face(0.9, 0, 0, 10, 10), face(0.6, 30, 0, 45, 15)
    large[5:] += 1
    assert faces.largest_points(torch.stack([small, large])).flatten().tolist() == large[5:].tolist()


@pytest.mark.parametrize(("height", "width"), ((64, 64), (40, 100), (300, 7), (1, 500)))
def test_a_picture_fits_in_the_square_in_its_proportions(height, width):
    square, scale = faces.fitted(torch.full((3, height, width), 200.0), SIDE)
    assert square.shape == (3, SIDE, SIDE)
    inside = square[0] > 0
    rows, columns = int(inside.any(1).sum()), int(inside.any(0).sum())
    assert max(rows, columns) in (SIDE, SIDE - 1)
    assert rows == pytest.approx(height * SIDE / max(height, width), abs=1)
    assert columns == pytest.approx(width * SIDE / max(height, width), abs=1)
    assert bool(inside[:rows, :columns].all()) and scale == pytest.approx(rows / height)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[2, 3] by singular values (Umeyama 1991, Eq. 40 to 42)."""
    seen, wanted = source - source.mean(0), target - target.mean(0)
    u, values, v = np.linalg.svd(wanted.T @ seen / len(seen))
    sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = u @ sign @ v
    scale = np.trace(np.diag(values) @ sign) / seen.var(0).sum()
    return np.c_[scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)]


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.floats(-math.pi, math.pi), st.floats(0.3, 3))
def test_a_face_is_brought_to_its_place_as_umeyama_and_scipy_do(seed, angle, scale):
    chance = np.random.default_rng(seed)
    picture = torch.nn.functional.interpolate(
        torch.from_numpy(chance.uniform(0, 255, (1, 3, 9, 8))), (90, 120), mode="bicubic"
    )[0]
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = (np.array(faces.FACE_POINTS) - 56) @ turned.T * scale / 2 + [60, 45] + chance.normal(0, 1, (5, 2))
    there = umeyama(points, np.array(faces.FACE_POINTS))
    y, x = np.mgrid[:112, :112]
    source = np.linalg.solve(there[:, :2], np.stack([x.ravel(), y.ravel()]) - there[:, 2:])
    expected = [map_coordinates(plane, source[::-1], order=1, mode="grid-constant") for plane in picture.numpy()]
    found = faces.aligned(picture, torch.from_numpy(points))
    np.testing.assert_allclose(found.numpy(), np.reshape(expected, (3, 112, 112)), atol=1e-6 * 255)
