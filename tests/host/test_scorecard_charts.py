"""The scorecard's charts, from made-up scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from core_personalization.core_ops.scores import Estimate, ScoreSummary
from core_personalization.nodes.evaluation.score_data import Scorecard

PROMPTS = ("a photo of a {}", "a {} that costs $5 or $6, " + "with a very long prompt " * 5)


@pytest.fixture(scope="module", autouse=True)
def charts(comfyui):
    from core_personalization.nodes.evaluation import score_charts as scorecard_charts

    return scorecard_charts


def card(means: Mapping[str, float], name: str = "my-cat", count: int = 4):
    """A scorecard with these means; with one picture there are no intervals."""

    def estimate(mean: float) -> Estimate:
        return Estimate(mean, None, None, 1) if count == 1 else Estimate(mean, mean - 0.05, mean + 0.02, count)

    scores = {score: ScoreSummary(estimate(mean), {PROMPTS[0]: estimate(mean)}) for score, mean in means.items()}
    return Scorecard(name, scores, {}, [], PROMPTS, {})


MEANS = {"clip_t": 0.25, "text_alignment": 0.2, "clip_i": 0.7, "dino": 0.6}


def is_picture(image: torch.Tensor) -> bool:
    return image.ndim == 4 and image.shape[0] == 1 and image.shape[3] == 3 and 0 <= image.min() < image.max() <= 1


def inked(image: torch.Tensor) -> int:
    return int((image < 0.9).any(dim=-1).sum())


def test_the_chart_has_a_panel_per_score_and_a_row_per_prompt(charts):
    image = charts.score_chart(card(MEANS))
    assert is_picture(image)
    fewer = charts.score_chart(card({"clip_t": 0.25}))
    assert fewer.shape[2] < image.shape[2] and fewer.shape[1] == image.shape[1]
    assert inked(fewer) < inked(image)


def test_more_prompts_than_can_be_read_are_one_row(charts):
    many = dataclasses.replace(card(MEANS), prompts=[f"prompt {number}" for number in range(500)])
    image = charts.score_chart(many)
    assert is_picture(image)
    assert image.shape[1] < charts.score_chart(card(MEANS)).shape[1]


def test_scores_of_one_picture_are_drawn_without_intervals(charts):
    one, many = (charts.score_chart(card(MEANS, count=count)) for count in (1, 4))
    assert is_picture(one)
    assert not torch.equal(one, many)
    assert is_picture(charts.pareto_chart([card(MEANS, count=1)], "dino", "clip_t"))


def test_the_pareto_chart_shows_every_scorecard(charts):
    cards = [card(MEANS), card({**MEANS, "dino": 0.5, "clip_t": 0.28}), card({**MEANS, "dino": 0.4}, "other")]
    images = [charts.pareto_chart(cards[:count], "dino", "clip_t") for count in (1, 2, 3)]
    assert all(map(is_picture, images))
    assert len({image.numpy().tobytes() for image in images}) == 3


def test_an_identity_score_that_one_lacks_gives_way_to_a_shared(charts):
    without = card({score: mean for score, mean in MEANS.items() if score != "dino"})
    cards = [card(MEANS), without]
    assert torch.equal(charts.pareto_chart(cards, "dino", "clip_t"), charts.pareto_chart(cards, "clip_i", "clip_t"))
    text_only = card({"clip_t": 0.3, "text_alignment": 0.2})
    assert is_picture(charts.pareto_chart([text_only], "dino", "clip_t"))


def test_the_front_holds_what_nothing_surpasses(charts):
    points = [(0.2, 0.9), (0.3, 0.8), (0.25, 0.7), (0.3, 0.8), (0.4, 0.1), (0.39, 0.1)]
    assert charts.pareto_front(points) == [(0.2, 0.9), (0.3, 0.8), (0.4, 0.1)]
    assert charts.pareto_front(points[:1]) == points[:1]
