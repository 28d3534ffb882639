"""A face recogniser and its detector from a folder of InsightFace's ONNX files, run by onnxruntime on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core_ops.quoting import quoted
from ...core_ops.scores import faces
from ..host.models.vision_models import VisionSource

LOOKED_AT = (640, 128)
"""Sides in pixels at which faces are searched: small ones, and those that fill the picture (InsightFace's own two)."""
_WANTED = "name a folder with a detector and a recogniser of InsightFace, such as insightface/models/antelopev2"


def face_files(source: VisionSource) -> list[Path]:
    """The folder's ONNX files, of folders in it too. Raises ValueError without any, and without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ValueError(
            f"{source.input_name}: it needs the package onnxruntime, which is not installed; run "
            "'pip install onnxruntime' in ComfyUI's Python, or leave it empty."
        )
    if not source.is_folder:
        raise ValueError(
            f"{source.input_name}: there is no folder {quoted(source.model)}; {_WANTED} (absolute, or inside ComfyUI's "
            "models folder)."
        )
    files = sorted(Path(source.location).rglob("*.onnx"))
    if not files:
        raise ValueError(f"{source.input_name}: {quoted(source.model)} has no .onnx files; {_WANTED}.")
    return files


class FaceEncoder:
    """What a recogniser makes of the largest face of pictures [3, H, W] in 0…1, of any sizes.

    several: in how many pictures there was more than one face.
    """

    def __init__(self, source: VisionSource) -> None:
        self.source = source
        self.several = 0
        sessions = [self._opened(file) for file in face_files(source)]
        self._detector = self._one(filter(_is_detector, sessions), "detector")
        self._recogniser = self._one(filter(_is_recogniser, sessions), "recogniser")

    def pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        """[B, D] in fp32 on the CPU; NaN where a picture shows no face. Raises ValueError for any other NaN."""
        width = self._recogniser.get_outputs()[0].shape[-1]
        features = torch.full((len(pictures), width), torch.nan)
        for row, picture in zip(features, pictures, strict=True):
            eight_bit = (picture.clamp(0, 1) * 255).round().float().cpu()
            found = self._faces(eight_bit)
            self.several += len(found) > 1
            if len(found):
                face = faces.aligned(eight_bit, faces.largest_points(found))
                row[:] = _outputs(self._recogniser, (face - 127.5) / 127.5)[0].flatten()
                if not bool(torch.isfinite(row).all()):
                    raise ValueError(
                        f"{self.source.input_name}: {quoted(self.source.model)} gives features that are not finite; "
                        "take another model."
                    )
        return features

    def _faces(self, picture: Tensor) -> Tensor:
        """[K, 15] in pixels of the picture [3, H, W] in 0…255, as in `faces.decoded`."""
        found = []
        for side in LOOKED_AT:
            square, scale = faces.fitted(picture, side)
            rows = faces.decoded(_outputs(self._detector, (square - 127.5) / 128), side)
            found.append(torch.cat([rows[:, :1], rows[:, 1:] / scale], dim=1))
        return faces.distinct(torch.cat(found))

    def _opened(self, file: Path) -> Any:
        import onnxruntime  # type: ignore[import-not-found]

        try:
            return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for each way in which a file is broken
            raise ValueError(
                f"{self.source.input_name}: {quoted(file.name)} cannot be opened by onnxruntime; fetch it anew."
            ) from error

    def _one(self, sessions: Any, what: str) -> Any:
        found = next(sessions, None)
        if found is None:
            raise ValueError(f"{self.source.input_name}: {quoted(self.source.model)} has no {what}; {_WANTED}.")
        return found


def _is_detector(session: Any) -> bool:
    """Whether it is an SCRFD with five points: a folder's other models have fewer outputs."""
    return len(session.get_outputs()) == faces.OUTPUTS


def _is_recogniser(session: Any) -> bool:
    """Whether it makes one row of features of a face of ArcFace's size; landmarks and ages are read at other sizes."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        return False
    return inputs[0].shape[1:] == [3, faces.FACE_SIDE, faces.FACE_SIDE] and isinstance(outputs[0].shape[-1], int)


def _outputs(session: Any, picture: Tensor) -> list[Tensor]:
    """Of one picture [3, H, W]."""
    found = session.run(None, {session.get_inputs()[0].name: picture[None].contiguous().numpy()})
    return [torch.from_numpy(each) for each in found]
