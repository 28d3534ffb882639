"""A scorecard as a Markdown table and as CSV."""

from __future__ import annotations

import csv
import io

from ...core_ops.scores import Estimate
from ..tables import markdown_table
from .score_data import TITLES, Scorecard


def markdown(card: Scorecard) -> str:
    """Overall scores, scores per prompt, and what to know about them."""
    facts = card.facts
    overall = [
        (TITLES[score], f"{summary.overall.mean:.4f}", _interval(summary.overall), str(summary.overall.n))
        for score, summary in card.scores.items()
    ]
    per_prompt = []
    for prompt in dict.fromkeys(card.prompts):
        estimates = [summary.per_prompt.get(prompt) for summary in card.scores.values()]
        cells = [f"{estimate.mean:.3f} ({_interval(estimate)})" if estimate else "–" for estimate in estimates]
        per_prompt.append((prompt, *cells))
    parts = [
        f"### {card.name}",
        f"{facts['generated']} generated pictures, {facts['references']} references. CLIP: {facts['clip_model']}. "
        f"DINO: {facts['dino_model'] or 'none'}. Style: {facts['style_model'] or 'none'}. "
        f"Face: {facts['face_model'] or 'none'}. "
        f"Intervals: 95%, over pictures ({facts['resamples']} resamples).",
        markdown_table(("Score", "Mean", "95% interval", "n"), overall),
        markdown_table(("Prompt", *(TITLES[score] for score in card.scores)), per_prompt),
        "\n".join(f"- {note}" for note in card.notes),
    ]
    return "\n\n".join(parts).rstrip() + "\n"


def csv_table(card: Scorecard) -> str:
    """One row per score and prompt, the empty prompt being all of them together."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["scorecard", "score", "prompt", "mean", "low", "high", "n"])
    for score, summary in card.scores.items():
        for prompt, estimate in {"": summary.overall, **summary.per_prompt}.items():
            bounds = ["" if bound is None else f"{bound:.6f}" for bound in (estimate.low, estimate.high)]
            writer.writerow([card.name, score, prompt, f"{estimate.mean:.6f}", *bounds, estimate.n])
    return stream.getvalue()


def one_line(card: Scorecard) -> str:
    """The means alone, to be shown on the node; of faces also in how many of the pictures one was found."""
    means = {score: f"{TITLES[score]} {summary.overall.mean:.3f}" for score, summary in card.scores.items()}
    if card.facts.get("face_model"):
        found = card.scores["face"].overall.n if "face" in card.scores else 0
        means["face"] = f"{means.get('face', TITLES['face'])} ({found}/{card.facts['in_identity_scores']})"
    return " · ".join(means.values())


def _interval(estimate: Estimate) -> str:
    """The 95% interval in writing; of a single value there is none."""
    if estimate.low is None or estimate.high is None:
        return "n = 1"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
