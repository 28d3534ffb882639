"""Charts and colour maps for node outputs, drawn by matplotlib without a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of this size in pixels. Raises RuntimeError without matplotlib, which ComfyUI does not bring."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError(
            "This node draws with matplotlib, which is not installed. In ComfyUI's Python run: pip install matplotlib"
        ) from error
    return Figure((width / DOTS_PER_INCH, height / DOTS_PER_INCH), DOTS_PER_INCH, layout="constrained")


def as_image(figure: Figure) -> Tensor:
    """The drawn figure as a host IMAGE [1, H, W, 3] in 0…1."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return (pixels.view(1, height, width, 4)[..., :3] / 255).contiguous()


def colored(values: Tensor, color_map: str) -> Tensor:
    """Values [...] in 0…1 as colours [..., 3] of one of matplotlib's maps."""
    from matplotlib import colormaps

    return torch.from_numpy(colormaps[color_map](values.numpy())[..., :3]).float()
