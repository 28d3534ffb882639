"""A folder as InsightFace's packs are: a detector, a recogniser and a model that is neither; small, random.

The detector sees a face where a cell of 32 pixels is red by a quarter, larger with more blue: `with_faces` paints that.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

SIDE, CELL = 128, 32
POINTS = np.array([[0.3, 0.35], [0.75, 0.3], [0.55, 0.6], [0.35, 0.85], [0.7, 0.9]], dtype=np.float32)
"""Of every face, in cells from the upper left of its own."""
FEATURES = 16


def with_faces(*cells: tuple[int, int], large: tuple[tuple[int, int], ...] = (), seed: int = 0) -> torch.Tensor:
    """A picture [1, 128, 128, 3] of grey noise with a face in each of these cells (row, column)."""
    generator = torch.Generator().manual_seed(seed)
    grey = torch.nn.functional.interpolate(torch.rand(1, 1, 16, 16, generator=generator), (SIDE, SIDE), mode="bicubic")
    picture = grey.clamp(0, 1).movedim(1, -1).repeat(1, 1, 1, 3)
    for row, column in (*cells, *large):
        top, left = CELL * row + 8, CELL * column + 8
        picture[:, top : top + 16, left : left + 16] = torch.tensor([1.0, 0.0, 1.0 if (row, column) in large else 0.0])
    return picture


def save_insightface(folder: Path, detector: bool = True, recogniser: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if detector:
        _save(folder / "det_10g.onnx", _detector())
    if recogniser:
        _save(folder / "w600k_r50.onnx", _features(112, FEATURES))
    _save(folder / "genderage.onnx", _features(96, 3))
    return folder


def _save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _constant(name: str, value: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)


def _detector() -> onnx.GraphProto:
    """Per grid a convolution as wide as a cell, and of its channels the rows of the two anchors."""
    nodes, constants, outputs = [], [], {"score": [], "box": [], "points": []}
    for stride in (8, 16, 32):
        weight = np.zeros((30, 3, stride, stride), dtype=np.float32)
        bias = np.full(30, -9.0, dtype=np.float32)
        if stride == CELL:
            weight[0, 0], weight[0, 1] = 1 / stride**2, -1 / stride**2  # Mean of red less mean of green: 0.5 is a face.
            bias[0] = -0.5
        bias[2:10] = 0.75
        weight[2:6, 2] = 0.5 / stride**2
        bias[10:] = np.tile(POINTS.flatten(), 2)
        constants += [_constant(f"w{stride}", weight), _constant(f"b{stride}", bias)]
        nodes.append(
            helper.make_node("Conv", ["image", f"w{stride}", f"b{stride}"], [f"c{stride}"], strides=[stride, stride])
        )
        parts = [f"{kind}_{stride}" for kind in outputs]
        constants.append(_constant(f"split{stride}", np.array([2, 8, 20])))
        nodes.append(helper.make_node("Split", [f"c{stride}", f"split{stride}"], [f"p_{p}" for p in parts], axis=1))
        for (kind, names), part, width in zip(outputs.items(), parts, (1, 4, 10), strict=True):
            constants.append(_constant(f"shape_{part}", np.array([-1, width])))
            nodes.append(helper.make_node("Transpose", [f"p_{part}"], [f"t_{part}"], perm=[0, 2, 3, 1]))
            raw = f"r_{part}" if kind == "score" else part
            nodes.append(helper.make_node("Reshape", [f"t_{part}", f"shape_{part}"], [raw]))
            if kind == "score":
                nodes += [
                    helper.make_node("Abs", [raw], [f"a_{part}"]),
                    helper.make_node("Mul", [f"a_{part}", "steep"], [f"m_{part}"]),
                    helper.make_node("Add", [f"m_{part}", "five"], [f"s_{part}"]),
                    helper.make_node("Sigmoid", [f"s_{part}"], [part]),
                ]
            names.append(helper.make_tensor_value_info(part, TensorProto.FLOAT, ["n", width]))
    constants += [_constant("steep", np.float32([-20])), _constant("five", np.float32([5]))]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    return helper.make_graph(nodes, "detector", [image], [*chain(*outputs.values())], constants)


def _features(side: int, width: int) -> onnx.GraphProto:
    chance = np.random.default_rng(side)
    kernel = chance.standard_normal((4, 3, 8, 8)).astype(np.float32) / 14
    head = chance.standard_normal((4 * (side // 8) ** 2, width)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["data", "kernel"], ["seen"], strides=[8, 8]),
        helper.make_node("Relu", ["seen"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["features"]),
    ]
    return helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [_constant("kernel", kernel), _constant("head", head)],
    )
