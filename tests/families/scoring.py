"""Pictures, masks and prompts to score, and the node "Personalization Scorecard" called as the host calls it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

PROMPTS = ("a photo of a embedding:my-cat in Times Square", "a (red:1.2) embedding:my-cat, by the lake")
STYLED = "a painting of a embedding:my-cat"
IDENTITY_SCORES = ("clip_i", "dino", "subject_alignment", "non_subject_disentanglement")


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """Blurred noise of these heights and widths, as an image node hands it over."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        small = [torch.rand(1, 3, 6, 6, generator=generator) for _ in sizes]
        large = [torch.nn.functional.interpolate(s, size, mode="bicubic") for s, size in zip(small, sizes, strict=True)]
        return [picture.clamp(0, 1).movedim(1, -1) for picture in large]


def boxes(images: list[torch.Tensor], seed: int = 0) -> list[torch.Tensor]:
    """A rectangle off the centre of each picture."""
    chance = np.random.default_rng(seed)
    masks = []
    for _, height, width, _ in (image.shape for image in images):
        mask = torch.zeros(1, height, width)
        top, left = chance.integers(0, height // 3), chance.integers(0, width // 3)
        mask[:, top : top + height // 2, left : left + width // 2 + 3] = 1
        masks.append(mask)
    return masks


REFERENCES = pictures((48, 48), (40, 64), (70, 50), seed=1)
GENERATED = pictures(*[(48, 48)] * 3, *[(56, 40)] * 4, seed=2)
EACH_PROMPT = [PROMPTS[0], PROMPTS[1], PROMPTS[0], STYLED, PROMPTS[1], PROMPTS[0], STYLED]
MASKS = {"reference_masks": boxes(REFERENCES), "generated_masks": boxes(GENERATED, seed=1)}


def execute(vision_models, references=None, generated=None, prompts=None, **inputs) -> dict[str, Any]:
    """The node as the host runs it: under inference mode, every input a list. Its outputs by name."""
    from core_personalization.nodes.evaluation.scorecard import PersonalizationScorecard

    sockets = ("reference_masks", "generated_masks", "concept", "compare_with")
    given = {"clip_model": vision_models["clip"], "dino_model": vision_models["dino"], "super_category": "cat"} | inputs
    values = {name: value if name in sockets else [value] for name, value in given.items()}
    with torch.inference_mode():
        found = PersonalizationScorecard.execute(
            REFERENCES if references is None else references,
            GENERATED if generated is None else generated,
            EACH_PROMPT if prompts is None else prompts,
            **values,
        )
    names = [output.id for output in PersonalizationScorecard.GET_SCHEMA().outputs]
    return dict(zip(names, found.args, strict=True)) | {"ui": found.ui}


def card_of(outputs: dict[str, Any]) -> dict[str, Any]:
    return json.loads(outputs["scores"])["scorecards"][-1]


def overall(outputs: dict[str, Any]) -> dict[str, float]:
    return {name: summary["overall"]["mean"] for name, summary in card_of(outputs)["scores"].items()}


@contextmanager
def without_drawing() -> Iterator[None]:
    """Charts take longer than all the rest, and have tests of their own."""
    from core_personalization.nodes.evaluation import scorecard

    with pytest.MonkeyPatch.context() as patch:
        for name in ("score_chart", "pareto_chart"):
            patch.setattr(scorecard, name, lambda *_: torch.zeros(1, 8, 8, 3))
        patch.setattr(scorecard, "new_figure", lambda *_: None)
        yield
