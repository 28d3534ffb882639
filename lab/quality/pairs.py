"""Two concepts in one LoRA against a LoRA of each: identity in prompts of its own, and what a prompt with both shows.

Words and settings are those of the protocol *methods*; words that its folder has are not trained again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..world.drawing.concepts import CONCEPTS
from ..world.drawing.contexts import CONTEXTS
from ..world.drawing.objects import OBJECTS
from ..world.networks.judge import Judge
from . import records
from .host import Host, Trained
from .judging import identity, keeps_coat
from .methods import METHODS
from .protocol import EVERY_METHOD, Cell
from .subjects import DIVERSE, Thing
from .training import Trainer

PAIRS = (("striped-cat", "striped-vase"), ("split-bear", "split-backpack"))
ALONE, TOGETHER, BOTH, PLAIN = "a LoRA of its own", "one LoRA for both", "both in one prompt", "both kinds, no training"
PICTURES, RESAMPLES = 2, 2000
"""Of each prompt; of the bootstrap."""


@dataclass(frozen=True)
class PairRow:
    """A picture and one of the concepts. kind: whether its kind is what the judge sees first; among_two: first or
    second."""

    pair: str
    how: str
    concept: str
    prompt: str
    seed: int
    identity: float
    kind: int
    among_two: int


def run(folder: Path, results: Path) -> None:
    """Trains, draws and judges; writes pairs.csv and pairs.md."""
    host, judge, rows = Host.mini_world(folder), Judge.load(), list[PairRow]()
    trainer = Trainer(host, EVERY_METHOD, folder)
    for pair in PAIRS:
        cells = [Cell(METHODS["CoRe, LoRA"], Thing(name), DIVERSE, 0) for name in pair]
        rows += _of_pair(host, judge, cells, [trainer.train(cell) for cell in cells])
        records.write(results / "pairs.csv", PairRow, rows)
    report(results)


def report(results: Path) -> None:
    records.report(results / "pairs.csv", PairRow, table)


def _of_pair(host: Host, judge: Judge, cells: Sequence[Cell], stages: Sequence[Sequence[Trained]]) -> Iterator[PairRow]:
    (first, second), words = cells, [of_one[0] for of_one in stages]
    (stage,) = first.method.finetunes
    settings = {
        "steps": 2 * EVERY_METHOD.finetune_steps,
        "batch_size": EVERY_METHOD.finetune_batch,
        "learning_rate": stage.rate * EVERY_METHOD.finetune_rate,
        "name": f"{first.concept}-{second.concept}",
        **stage.settings,
    }
    also = [(words[1].concept, second.pictures())]
    both = host.finetune(words[0], first.pictures(), None, None, settings, also)
    for cell, word, of_one in zip(cells, words, stages, strict=True):
        prompts = [template for template in cell.subject.prompts if keeps_coat(template)]
        filled = [template.replace("{}", word.concept.token) for template in prompts]
        for how, trained in ((ALONE, of_one[-1]), (TOGETHER, both)):
            yield from _judged(host, judge, cells, how, filled, trained.model, of=[cell])
    tokens, kinds = [word.concept.token for word in words], [cell.kind for cell in cells]
    for how, (one, other), model in ((BOTH, tokens, both.model), (PLAIN, kinds, host.model)):
        prompts = [f"a photo of a {one} and a {other} {place}" for place in CONTEXTS]
        yield from _judged(host, judge, cells, how, prompts, model, of=cells)


def _judged(
    host: Host, judge: Judge, pair: Sequence[Cell], how: str, prompts: Sequence[str], model: object, of: Sequence[Cell]
) -> Iterator[PairRow]:
    """Rows of the same prompts and seeds for every model."""
    drawn = [(prompt, 100 * place + seed) for place, prompt in enumerate(prompts) for seed in range(PICTURES)]
    pictures = host.sample(
        model,
        (host.encode(prompt) for prompt, _ in drawn),
        [seed for _, seed in drawn],
        EVERY_METHOD.sampling_steps,
        EVERY_METHOD.guidance,
    )
    with torch.no_grad():
        seen = judge.logits(pictures)["kind"].topk(2).indices
    for cell in of:
        own = identity(judge, cell, pictures)
        is_kind = seen == list(OBJECTS).index(cell.kind)
        for (prompt, seed), value, found in zip(drawn, own.tolist(), is_kind.tolist(), strict=True):
            yield PairRow(
                " and ".join(each.concept for each in pair),
                how,
                cell.concept,
                prompt,
                seed,
                round(value, 4),
                int(found[0]),
                int(any(found)),
            )


def table(rows: Sequence[PairRow]) -> str:
    """Markdown: per concept its identity in its own prompts, trained alone and together, and the part of it that is
    left, with 95% intervals over pictures; then how often a prompt with both shows each kind."""
    from .report import markdown

    own, shown = [], []
    for pair in dict.fromkeys(row.pair for row in rows):
        for concept in pair.split(" and "):
            values = {how: [row for row in rows if (row.concept, row.how, row.pair) == (concept, how, pair)]
                      for how in (ALONE, TOGETHER, BOTH, PLAIN)}  # fmt: skip
            alone, together = ([row.identity for row in values[how]] for how in (ALONE, TOGETHER))
            part = part_left(torch.tensor(alone), torch.tensor(together))
            kinds = [f"{_mean(row.kind for row in values[how]):.2f}" for how in (ALONE, TOGETHER)]
            means = [f"{_mean(each):.3f}" for each in (alone, together)]
            own.append([concept, str(len(alone)), *means, "{:.3f} [{:.2f}, {:.2f}]".format(*part), *kinds])
            there = [f"{_mean(row.among_two for row in values[how]):.2f}" for how in (BOTH, PLAIN)]
            shown.append([pair, CONCEPTS[concept][0], str(len(values[BOTH])), *there])
    head = ["concept", "n", "identity alone", "together", "part left", "right kind alone", "together"]
    return f"{markdown(head, own)}\n\n{markdown(['pair', 'kind', 'n', BOTH, PLAIN], shown)}\n"


def part_left(alone: Tensor, together: Tensor) -> tuple[float, float, float]:
    """Ratio of the means of [n] paired values, with its percentile bootstrap interval."""
    draws = torch.randint(len(alone), (RESAMPLES, len(alone)), generator=torch.Generator().manual_seed(0))
    ratios = together[draws].mean(dim=1) / alone[draws].mean(dim=1)
    low, high = torch.quantile(ratios, torch.tensor([0.025, 0.975])).tolist()
    return float(together.mean() / alone.mean()), low, high


def _mean(values: Iterator[float] | Sequence[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
