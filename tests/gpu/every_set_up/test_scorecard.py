"""The scorecard on the card, however ComfyUI was started."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import scoring
from families.scoring import without_drawing


def on_card(pictures: list[torch.Tensor]) -> list[torch.Tensor]:
    return [picture.cuda() for picture in pictures]


def test_pictures_on_the_card_are_scored_as_those_in_main_memory(vision_models):
    cards: list[dict[str, Any]] = []
    for moved in (list, on_card):
        masks = {name: moved(values) for name, values in scoring.MASKS.items()}
        with without_drawing():
            outputs = scoring.execute(vision_models, moved(scoring.REFERENCES), moved(scoring.GENERATED), **masks)
        cards.append(scoring.overall(outputs))
    assert cards[0] == pytest.approx(cards[1], abs=1e-4)
