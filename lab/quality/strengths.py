"""How strong the regularizers were, and what that does: to L_emb and L_attn, to text alignment and to identity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import correlation, mean
from typing import Any

from .drawing import Run
from .methods import ALONE, LORA, NONE, STRENGTHS
from .report import cell, markdown, reach, write_figure
from .summary import Line

MEASURES = {"single": ("share_emb", "share_attn"), "averaged": ("averaged_emb", "averaged_attn")}
LOSSES = {"L_emb": "loss_emb", "L_attn": "loss_attn"}
SHOWN = ("text alignment", "faithful", "identity")
STAGES = {ALONE: "the embedding alone", "": "the U-Net after it", LORA: "a LoRA after it"}


def strengths(lines: Sequence[Line], runs: Sequence[Run]) -> str:
    """Markdown: for each kind of references and stage the strengths; and which measure foretells what a term does.

    Shares are means over a training, and over concepts as all figures. L_emb, L_attn: in the end, as parts of what
    they are without regularizers. Empty where no strengths were run.
    """
    parts = []
    for (references, stage), found in series(lines).items():
        parts.append(f"### {references.capitalize()} references, {STAGES[stage]}\n\n{_table(found, stage, runs)}")
    if not parts:
        return ""
    foretold = list(_foretold(runs))
    if foretold:
        parts.append(markdown(["rank correlation with its fall", *LOSSES], foretold))
    return "\n\n".join(parts) + "\n"


def series(lines: Sequence[Line]) -> Mapping[tuple[str, str], Sequence[Line]]:
    """Kind of references and stage → its lines from the weakest to the strongest, where there are several."""
    found = {
        (references, stage): [
            line
            for name in STRENGTHS
            for line in lines
            if (line.method, line.references) == (f"{name}{stage}", references)
        ]
        for references in dict.fromkeys(line.references for line in lines)
        for stage in STAGES
    }
    return {key: some for key, some in found.items() if len(some) > 1}


def _table(lines: Sequence[Line], stage: str, runs: Sequence[Run]) -> str:
    rows = []
    for line in lines:
        own = [run for run in runs if (run.method, run.references) == (line.method, line.references)]
        shares = [", ".join(f"{mean(getattr(run, name) or 0.0 for run in own):.3f}" for name in names)
                  for names in MEASURES.values()]  # fmt: skip
        falls = [f"{remaining(own, runs, loss):.2f}" for loss in LOSSES.values()]
        against = line.differences.get(f"{NONE}{stage}", {})
        rows.append([line.method, str(line.concepts), str(line.pictures), *shares, *falls,
                     *(cell(line.scores, name) for name in SHOWN), cell(against, "identity", "+")])  # fmt: skip
    head = ["method", "concepts", "n", *(f"{measure} shares" for measure in MEASURES), *LOSSES, *SHOWN]
    return markdown([*head, "identity against λ 0"], rows)


def _place(run: Run) -> tuple[str, str, int]:
    return run.concept, run.references, run.seed


def remaining(own: Sequence[Run], runs: Sequence[Run], loss: str) -> float:
    """Mean over `own` of a loss as a part of what the same concept has without regularizers; NaN without that."""
    return mean(_remaining(own, runs, loss).values() or [math.nan])


def _remaining(own: Sequence[Run], runs: Sequence[Run], loss: str) -> dict[int, float]:
    """By the number of a run in `own`."""
    without = {_place(run): getattr(run, loss) for run in runs if run.method.removesuffix(ALONE) == NONE}
    return {i: getattr(run, loss) / without[_place(run)] for i, run in enumerate(own) if _place(run) in without}


def _foretold(runs: Sequence[Run]) -> Iterator[list[str]]:
    """Of all trainings of the word alone with regularizers, for each measure of their share: its rank correlation with
    how far they fell."""
    own = [run for run in runs if run.method.endswith(ALONE) and run.averaged_emb]
    if len({run.method for run in own}) < 2:
        return
    for measure, names in MEASURES.items():
        row = [f"share of {measure} gradients"]
        for name, loss in zip(names, LOSSES.values(), strict=True):
            falls = _remaining(own, runs, loss)
            shares = [getattr(own[i], name) for i in falls]
            row.append(f"{correlation(_ranks(shares), _ranks([-fall for fall in falls.values()])):.2f}")
        yield row


def _ranks(values: Sequence[float]) -> list[int]:
    return [sorted(values).index(value) for value in values]


def curve(lines: Sequence[Line], file: Path) -> None:
    """Identity against text alignment along the strengths: a panel for each kind of references, a line for a stage. A
    strength that fewer concepts were trained with is left out."""
    from core_personalization.nodes.charts import new_figure

    most = max(line.concepts for line in lines)
    found = series([line for line in lines if line.concepts == most])
    kinds = list(dict.fromkeys(references for references, _ in found))
    figure = new_figure(480 * len(kinds), 440)
    for place, kind in enumerate(kinds, 1):
        axes: Any = figure.add_subplot(1, len(kinds), place, title=f"{kind} references")
        for (references, stage), along in found.items():
            if references == kind:
                _draw(axes, along, stage, f"C{list(STAGES).index(stage)}")
        axes.set(xlabel="identity", ylabel="text alignment")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    write_figure(figure, file)


def _draw(axes: Any, along: Sequence[Line], stage: str, color: str) -> None:
    own, text = ([line.scores[name] for line in along] for name in ("identity", "text alignment"))
    axes.plot([each.mean for each in own], [each.mean for each in text], color=color, label=STAGES[stage])
    for line, x, y in zip(along, own, text, strict=True):
        axes.errorbar(x.mean, y.mean, xerr=reach(x), yerr=reach(y), color=color, marker="o", markersize=4, alpha=0.4)
        name = line.method.removesuffix(stage).removeprefix("CoRe, ").removeprefix("shares 0")
        axes.annotate(name, (x.mean, y.mean), xytext=(4, 5), textcoords="offset points", fontsize=8)
