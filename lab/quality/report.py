"""Table and chart from the CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .drawing import Run
from .judging import SCORES
from .methods import CEILING
from .summary import BASELINES, Line

if TYPE_CHECKING:
    from core_personalization.core_ops.scores import Estimate


def table(lines: Sequence[Line], runs: Sequence[Run], names: Sequence[str] = tuple(SCORES)) -> str:
    """Markdown: for each kind of references the scores of these names, then the differences from the baselines."""
    parts = [about(runs)]
    for references in dict.fromkeys(line.references for line in lines):
        chosen = [line for line in lines if line.references == references]
        parts.append(f"### {references.capitalize()} references\n\n{_scores(chosen, names)}")
        parts += _shares_of_ceiling(chosen)
        for baseline in BASELINES:
            compared = {line.method: line.differences[baseline] for line in chosen if baseline in line.differences}
            if compared:
                said = f"Difference from {baseline}, same concept, prompt and noise:"
                parts.append(f"{said}\n\n{_differences(compared, names)}")
    return "\n\n".join(parts) + "\n"


def about(runs: Sequence[Run]) -> str:
    """What was run, where and how long."""
    commits, machines = (sorted({getattr(run, name) for run in runs}) for name in ("commit", "hardware"))
    minutes = sum(run.training_seconds + run.drawing_seconds for run in runs) / 60
    return (
        f"{len(runs)} runs, {sum(run.pictures for run in runs)} pictures, {minutes:.0f} minutes of training and "
        f"drawing on {', '.join(machines)}; "
        f"commit {', '.join(commits)}. Brackets: 95% intervals of a hierarchical bootstrap over concepts, seeds and "
        "pictures."
    )


def _scores(lines: Sequence[Line], names: Sequence[str]) -> str:
    known = [name for name in names if any(name in line.scores for line in lines)]
    rows = [
        [line.method, str(line.concepts), str(line.pictures), *(cell(line.scores, name) for name in known)]
        for line in lines
    ]
    return markdown(["method", "concepts", "n", *known], rows)


def _shares_of_ceiling(lines: Sequence[Line]) -> list[str]:
    identities = {line.method: line.scores["identity"].mean for line in lines if "identity" in line.scores}
    ceiling = identities.pop(CEILING, None)
    if ceiling is None:
        return []
    shares = ", ".join(f"{method} {value / ceiling:.3f}" for method, value in identities.items())
    return [f"Identity as a share of the thing's own ({ceiling:.3f}, drawn and put through the VAE): {shares}."]


def _differences(compared: Mapping[str, Mapping[str, Estimate]], names: Sequence[str]) -> str:
    known = [name for name in names if any(name in found for found in compared.values())]
    rows = [
        [method, str(max(estimate.n for estimate in found.values())), *(cell(found, name, "+") for name in known)]
        for method, found in compared.items()
    ]
    return markdown(["method", "n", *known], rows)


def cell(estimates: Mapping[str, Estimate], name: str, sign: str = "") -> str:
    if name not in estimates:
        return ""
    estimate = estimates[name]
    interval = "" if estimate.low is None else f" [{estimate.low:{sign}.2f}, {estimate.high:{sign}.2f}]"
    return f"{estimate.mean:{sign}.3f}{interval}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chart(lines: Sequence[Line], file: Path, names: Mapping[str, str]) -> None:
    """Two scores with both intervals, one panel for each kind of references on the same axes; each method has one look
    in all. names: the scores upwards and to the right, with what is written there; a method without one is left out."""
    from core_personalization.nodes.charts import new_figure

    lines = [line for line in lines if names.keys() <= line.scores.keys()]
    kinds, methods = (list(dict.fromkeys(getattr(line, name) for line in lines)) for name in ("references", "method"))
    figure = new_figure(520 * len(kinds) + 260, 560)
    upwards, to_the_right = names.values()
    panels = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for axes, references in zip(panels, kinds, strict=True):
        for line in lines:
            if line.references == references:
                _point(axes, line, list(names), methods.index(line.method))
        axes.set(xlabel=to_the_right, title=f"{references} references")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(upwards)
    legends = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels]
    points = {method: point for legend in legends for point, method in legend}
    panels[-1].legend(points.values(), points, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    write_figure(figure, file)


def write_figure(figure: Any, file: Path) -> None:
    from core_personalization.nodes.charts import as_image
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((as_image(figure)[0] * 255).round().byte().numpy()).save(file, quality=75, method=6)


def _point(axes: Any, line: Line, names: Sequence[str], number: int) -> None:
    upwards, to_the_right = (line.scores[name] for name in names)
    style = {"color": f"C{number % 10}", "marker": "osD^vP"[number // 10 % 6], "alpha": 0.85, "capsize": 2}
    reaches = {"xerr": reach(to_the_right), "yerr": reach(upwards)}
    axes.errorbar(to_the_right.mean, upwards.mean, label=line.method, **reaches, **style)


def reach(estimate: Estimate) -> list[list[float]] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
