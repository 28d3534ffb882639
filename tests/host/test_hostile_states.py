"""Saved states that are broken, or made to break something: refused before any training, and nothing is written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from core_personalization.core_ops.training.training_loop import TrainingLoop
from core_personalization.nodes.files import safe_files
from families import embedding, finetuning
from safetensors.torch import save_file

DAMAGED = {
    "truncated": lambda content: content[:-40],
    "a truncated header": lambda content: content[:60],
    "empty": lambda content: b"",
    "a header of 1 GiB": lambda content: (2**30).to_bytes(8, "little") + content[8:],
    "a lying header": lambda content: (
        content[:8] + content[8:].replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1)
    ),
    "a pickle": lambda content: pickle.dumps({"state": 1}),
}

# What becomes of the plain part, and of tensors by their names' ends.
Plain = dict[str, Any]
CHANGED_PLAIN = {
    "no state": lambda plain: None,
    "a list": lambda plain: [1, 2],
    "no loop": lambda plain: {**plain, "loop": 5},
    "no digests": lambda plain: {**plain, "made_of": None},
    "another digest": lambda plain: {**plain, "made_of": {**plain["made_of"], "pictures": "0" * 64}},
    "settings that are none": lambda plain: {**plain, "settings": [1]},
    "another setting": lambda plain: {**plain, "settings": {**plain["settings"], "seed": "<b>" * 10**4}},
    "steps that are no number": lambda plain: {**plain, "settings": {"steps": "2"}},
    "no steps of the steady loss": lambda plain: {**plain, "steady_steps": None},
    "steady samples that are no number": lambda plain: {**plain, "steady_samples": "4"},
    "more steady samples than memory has room for": lambda plain: {**plain, "steady_samples": 10**9},
    "a step that is no number": lambda plain: {**plain, "loop": {**plain["loop"], "step": "2"}},
    "a step before the first": lambda plain: {**plain, "loop": {**plain["loop"], "step": -5}},
    "a step after the last": lambda plain: {**plain, "loop": {**plain["loop"], "step": 10**30}},
    "curves that are none": lambda plain: {**plain, "losses": {"loss": "abc"}},
    "a curve of texts": lambda plain: {**plain, "losses": {"loss": ["<b>"]}},
    "no random numbers": lambda plain: {**plain, "loop": {**plain["loop"], "random": {}}},
    "no weighting": lambda plain: {**plain, "loop": {**plain["loop"], "weighting": 3}},
    "no optimizer": lambda plain: {**plain, "loop": {**plain["loop"], "optimizer": {"x": {}}}},
}
PARAMETER, MOMENT, RANDOM = "/loop/parameters/0", "/loop/optimizer/0/exp_avg", "/loop/random/data"
CHANGED_TENSORS = {
    "NaN": (PARAMETER, lambda tensor: torch.full_like(tensor, float("nan"))),
    "infinity in a moment": (MOMENT, lambda tensor: torch.full_like(tensor, float("inf"))),
    "another shape": (PARAMETER, lambda tensor: torch.zeros(3, 5)),
    "another shape of a moment": (MOMENT, lambda tensor: torch.zeros(3, 5)),
    "a random state of another length": (RANDOM, lambda tensor: tensor[:8]),
    "a random state of fractions": (RANDOM, lambda tensor: tensor.float()),
}
REASON = {
    "another digest": "was made with other pictures. Set that back",
    "another setting": "was made with another seed. Set that back",
    "a step after the last": "set steps to that or more",
    "NaN": "holds NaN or infinity",
    "infinity in a moment": "holds NaN or infinity",
    "another shape": "other parameters, or is damaged",
    "another shape of a moment": "parameter 0 has another shape",
}


def execute(models: Any, **settings: Any) -> Any:
    given = {"concept_name": "resumed", "batch_size": 1, "rescale_to": 0, **settings}
    return embedding.execute(models, finetuning.pictures(), **given)


@pytest.fixture(scope="module")
def state(sd1) -> Path:
    """As a run leaves it that was stopped after its second step."""
    from core_personalization.nodes.files import concept_files

    execute(sd1, steps=2, save_every=2)
    concept_files.embedding_path("resumed").unlink()
    return concept_files.state_path("resumed")


@pytest.fixture(scope="module")
def good(state) -> bytes:
    return state.read_bytes()


def change(case: str, good: bytes, path: Path) -> None:
    path.write_bytes(good)
    if case in DAMAGED:
        path.write_bytes(DAMAGED[case](good))
        return
    tensors, metadata = safe_files.read(path)
    if case in CHANGED_PLAIN:
        metadata = {"state": json.dumps(CHANGED_PLAIN[case](json.loads(metadata["state"])))}
    elif case == "no metadata":
        metadata = {}
    elif case == "brackets without end":
        metadata = {"state": "[" * 10**6}
    else:
        name, changed = CHANGED_TENSORS[case]
        assert name in tensors
        tensors[name] = changed(tensors[name])
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("case", [*DAMAGED, *CHANGED_PLAIN, *CHANGED_TENSORS, "no metadata", "brackets without end"])
def test_a_broken_state_is_refused_with_reason_before_any_step(case, state, good, sd1, comfyui, monkeypatch):
    change(case, good, state)
    before = {file: file.stat().st_mtime_ns for file in comfyui.rglob("*") if file.is_file()}
    step = TrainingLoop._train_one_step

    def only_rehearsed(loop: TrainingLoop):
        return step(loop) if loop.recipe.parameters[0].is_meta else pytest.fail("it was trained")

    monkeypatch.setattr(TrainingLoop, "_train_one_step", only_rehearsed)
    with pytest.raises(ValueError, match=f"^start: .*{REASON.get(case, '')}") as refused:
        execute(sd1)
    assert len(str(refused.value)) < 1000
    assert {file: file.stat().st_mtime_ns for file in comfyui.rglob("*") if file.is_file()} == before


def test_the_state_that_these_are_made_from_is_good(state, good, sd1):
    state.write_bytes(good)
    _, _, losses, *_ = execute(sd1)
    assert len(losses["loss"]) == 4
