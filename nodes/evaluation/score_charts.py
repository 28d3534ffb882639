"""A scorecard's charts: every score per prompt, and identity against text for several scorecards."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...core_ops.scores import Estimate
from ..charts import as_image, new_figure
from .evaluation_settings import IDENTITY_AXES
from .score_data import TITLES, Scorecard

PANEL_WIDTH, LABEL_WIDTH, ROW_HEIGHT, FRAME_HEIGHT = 210, 360, 26, 110
PARETO_SIDE = 720
LABEL_LENGTH, MOST_PROMPTS = 52, 60


def score_chart(card: Scorecard) -> Tensor:
    """One panel per score, "all" on top, then one row per prompt unless there are too many to read; [1, H, W, 3]."""
    different = list(dict.fromkeys(card.prompts))
    prompts = different if len(different) <= MOST_PROMPTS else []
    height = FRAME_HEIGHT + ROW_HEIGHT * (len(prompts) + 1)
    figure = new_figure(LABEL_WIDTH + PANEL_WIDTH * len(card.scores), height)
    panels = figure.subplots(1, len(card.scores), sharey=True, squeeze=False)[0]
    short = [prompt if len(prompt) <= LABEL_LENGTH else prompt[: LABEL_LENGTH - 1] + "…" for prompt in prompts]
    labels = [f"all {len(different)} prompts", *short]
    for panel, (score, summary) in zip(panels, card.scores.items(), strict=True):
        for row, estimate in enumerate([summary.overall, *(summary.per_prompt.get(prompt) for prompt in prompts)]):
            if estimate is not None:
                style = {"fmt": "o", "markersize": 4, "capsize": 2, "color": "black" if row else "tab:blue"}
                panel.errorbar(estimate.mean, row, xerr=_arms(estimate), **style)
        panel.axvline(summary.overall.mean, color="tab:blue", linewidth=0.8, alpha=0.5)
        panel.set_title(TITLES[score])
        panel.grid(axis="x", alpha=0.3)
        panel.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(range(len(labels)), labels, parse_math=False)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    figure.suptitle(f"{card.name} · mean and 95% interval", parse_math=False)
    return as_image(figure)


def pareto_chart(cards: Sequence[Scorecard], identity: str, text: str) -> Tensor:
    """Identity against text alignment, each scorecard a point with its intervals; the front is a line, [1, H, W, 3].

    identity: the next of `IDENTITY_AXES` is taken where a scorecard has none. Without any the chart says so.
    """
    figure = new_figure(PARETO_SIDE, PARETO_SIDE)
    axes = figure.subplots()
    shared = next((score for score in (identity, *IDENTITY_AXES) if all(score in card.scores for card in cards)), None)
    axes.set_xlabel(f"{TITLES[text]} (more of the prompt)")
    axes.set_title("Identity against text alignment, 95% intervals")
    if shared is None:
        axes.text(0.5, 0.5, "No identity score that all scorecards have", ha="center", transform=axes.transAxes)
        return as_image(figure)
    points = [(card.scores[text].overall, card.scores[shared].overall) for card in cards]
    names = [card.name for card in cards]
    for number, (x, y) in enumerate(points):
        name, earlier = names[number], names[:number].count(names[number])
        label = f"{name} ({earlier + 1})" if earlier else name
        axes.errorbar(x.mean, y.mean, yerr=_arms(y), xerr=_arms(x), marker="o", capsize=3, label=label)
    front = pareto_front([(x.mean, y.mean) for x, y in points])
    axes.plot(*zip(*front, strict=True), color="grey", linestyle="--", linewidth=1, zorder=0, label="Pareto front")
    axes.set_ylabel(f"{TITLES[shared]} (more of the concept)")
    axes.grid(alpha=0.3)
    for entry in axes.legend().get_texts():
        entry.set_parse_math(False)
    return as_image(figure)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points to which no other is equal or better in both coordinates, from left to right."""
    return sorted(p for p in set(points) if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points))


def _arms(estimate: Estimate) -> list[list[float]] | None:
    """How far the interval reaches to both sides of the mean."""
    if estimate.low is None or estimate.high is None:
        return None
    return [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
