"""How a training went, as a chart: the steady loss, and the terms, smoothed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..charts import as_image, new_figure
from ..labels import SYMBOLS

logger = logging.getLogger(__name__)

STEADY = "steady_loss"
DIFFUSION = ("diffusion", "prior_preservation")
NO_TERMS = ("loss", "embedding_norm", STEADY)
WIDTH, PANEL = 800, 360
"""Pixels: of the chart, and high of each of its panels. Nodes are about 400 wide, so it is drawn large."""
MOST_POINTS = 200
"""Of a curve in a file's card."""
SMOOTHED_OVER = 10
"""A term is averaged over a part of the training, one of so many."""


def loss_chart(curves: Mapping[str, Sequence[float]], steady_steps: Sequence[int], steps: int) -> Tensor:
    """[1, H, W, 3] of a training's curves by name, `steps` long; white where matplotlib is not installed.

    steady_steps: those after which the steady loss was measured.
    """
    regularizers = [name for name in curves if "." not in name and name not in (*NO_TERMS, *DIFFUSION)]
    try:
        figure = new_figure(WIDTH, PANEL * (2 if regularizers else 1))
    except RuntimeError as error:  # a training is not to end with that
        logger.warning("%s", error)
        return torch.ones(1, PANEL, WIDTH, 3)
    panels: Any = figure.subplots(2 if regularizers else 1, 1, squeeze=False, sharex=True)[:, 0]
    for name in DIFFUSION:
        if curves.get(name):
            label, marker = f"{SYMBOLS.get(name, name)}, smoothed", "o" if len(curves[name]) == 1 else None
            panels[0].plot(*_smoothed(curves[name], steps), label=label, marker=marker, linewidth=1.5, alpha=0.6)
    steady = curves.get(STEADY, ())
    if steady:
        label = f"steady loss {steady[-1]:.3g}"
        panels[0].plot(steady_steps, steady, label=label, color="black", linewidth=3, marker="o", markersize=4)
    for name in regularizers:
        x, y = _smoothed(curves[name], steps)
        label = f"{SYMBOLS.get(name, name)} {y[-1]:.2g}" if len(y) else SYMBOLS.get(name, name)
        panels[1].plot(x, np.where(y > 0, y, np.nan), label=label, marker="o" if len(y) == 1 else None, linewidth=2.5)
        panels[1].set_yscale("log")
    for panel in panels:
        panel.tick_params(labelsize=14)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=14, loc="best", framealpha=0.7)
    panels[-1].set_xlabel("step", fontsize=14)
    return as_image(figure)


def over_chart(pictures: Tensor | None, chart: Tensor) -> Tensor:
    """[1, H, W, 3]: pictures [1, h, w, 3], if any, as wide as the chart and above it."""
    if pictures is None:
        return chart
    height = round(pictures.shape[1] * WIDTH / pictures.shape[2])
    wide = interpolate(pictures.movedim(-1, 1), (height, WIDTH), mode="bilinear", antialias=True).movedim(1, -1)
    return torch.cat([wide.clamp(0, 1), chart], dim=1)


def _smoothed(values: Sequence[float], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and a running mean over a part of the curve; of a curve thinned for a card, too."""
    y = np.asarray(values, dtype=float)
    width = max(len(y) // SMOOTHED_OVER, 1)
    sums = np.convolve(y, np.ones(width), "same") / np.convolve(np.ones(len(y)), np.ones(width), "same")
    return np.linspace(1, max(steps, 1), len(y)) if len(y) > 1 else np.full(len(y), steps), sums


def thinned(values: Sequence[float]) -> list[float]:
    """For a file's card: evenly over the curve, both ends kept, in the digits of fp32."""
    places = torch.linspace(0, len(values) - 1, min(len(values), MOST_POINTS)).round().long().tolist()
    return [float(f"{values[place]:.9g}") for place in places]
