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
    head = [
        f"### {card.name}",
        "",
        f"{facts['generated']} generated pictures, {facts['references']} references. CLIP: {facts['clip_model']}. "
        f"DINO: {facts['dino_model'] or 'none'}. Intervals: 95%, over pictures ({facts['resamples']} resamples).",
    ]
    notes = [f"- {note}" for note in card.notes]
    return "\n".join([*head, "", _overall(card), "", _per_prompt(card), "", *notes]).rstrip() + "\n"


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
    """The means alone, to be shown on the node."""
    return " · ".join(f"{TITLES[score]} {summary.overall.mean:.3f}" for score, summary in card.scores.items())


def _overall(card: Scorecard) -> str:
    rows = []
    for score, summary in card.scores.items():
        estimate = summary.overall
        rows.append((TITLES[score], f"{estimate.mean:.4f}", _interval(estimate), str(estimate.n)))
    return markdown_table(("Score", "Mean", "95% interval", "n"), rows)


def _per_prompt(card: Scorecard) -> str:
    rows = [
        (prompt, *(_cell(summary.per_prompt.get(prompt)) for summary in card.scores.values()))
        for prompt in dict.fromkeys(card.prompts)
    ]
    return markdown_table(("Prompt", *(TITLES[score] for score in card.scores)), rows)


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.mean:.3f} ({_interval(estimate)})"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "n = 1"
    return f"{estimate.low:.3f} to {estimate.high:.3f}"
