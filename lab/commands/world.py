"""The mini world: draw its things, train its checkpoint, expand it, measure it.

python -m lab world expand DESTINATION      the embedded checkpoint as ComfyUI loads it
python -m lab world evaluate                what the judge sees in its pictures
python -m lab world train --work FOLDER     a checkpoint from nothing, stage by stage
python -m lab world concepts                the references in lab/assets/concepts
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

STAGES = ("data", "vae", "text", "unet", "decoder", "judge", "export")
MINUTES = {"vae": 20.0, "text": 1.5, "unet": 60.0, "decoder": 10.0, "judge": 8.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    expand = actions.add_parser("expand", help="write the checkpoint in fp16, about 300 MB")
    expand.add_argument("destination", type=Path)
    expand.add_argument("--core", type=Path, metavar="FILE", help="of a training; default: the embedded one")
    expand.set_defaults(action=_expand)
    evaluate = actions.add_parser("evaluate", help="prompts of held-out combinations through ComfyUI's own sampler")
    evaluate.add_argument("--pictures", type=int, default=400)
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--guidance", type=float, default=3.0)
    evaluate.add_argument("--sheet", type=Path, default=Path("docs/images/mini_world_sheet.webp"))
    evaluate.add_argument("--checkpoint", type=Path, help="default: the embedded one, expanded")
    evaluate.set_defaults(action=_evaluate)
    train = actions.add_parser("train", help="train from random weights; stages go on from what earlier ones left")
    train.add_argument("--work", type=Path, required=True, help="folder for what the stages leave")
    train.add_argument("--stage", default="all", choices=["all", *STAGES])
    train.add_argument("--device", help="default: cuda where it is found, else cpu")
    train.add_argument("--captions", type=int, default=4000, help="captions to draw, four pictures of each")
    train.add_argument("--seed", type=int, default=0)
    for stage, minutes in MINUTES.items():
        train.add_argument(f"--{stage}-minutes", type=_minutes, default=minutes, help=f"default: {minutes:g}")
    train.set_defaults(action=_train)
    concepts = actions.add_parser("concepts", help="draw the references of the quick start's things")
    concepts.set_defaults(action=_concepts)


def run(given: argparse.Namespace) -> None:
    given.action(given)


def _minutes(text: str) -> float:
    if (minutes := float(text)) <= 0:
        raise argparse.ArgumentTypeError(f"got {text}; give more than 0")
    return minutes


def _expand(given: argparse.Namespace) -> None:
    from ..world.embedded import CHECKSUM, CORE, expand, provenance

    core = given.core or CORE
    print(expand(given.destination, core, core.with_name(CHECKSUM.name)))
    print(json.dumps(provenance(core), indent=2))


def _evaluate(given: argparse.Namespace) -> None:
    from ..world.evaluation import evaluate

    evaluate(given)


def _train(given: argparse.Namespace) -> None:
    from ..world.training.stages import train

    minutes = {stage: getattr(given, f"{stage}_minutes") for stage in MINUTES}
    train(given, list(STAGES) if given.stage == "all" else [given.stage], minutes)


def _concepts(_: argparse.Namespace) -> None:
    from ..world.drawing.concepts import write_pictures

    write_pictures()
