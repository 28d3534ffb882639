"""Whatever comes in at a node: success, or a ValueError that names the input and says what to do. Nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from core_personalization.core_ops.diffusion_process import DDIMConfig
from families.concepts import make_concept, save
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from photo_files import photo_folder

from robustness.fuzzed_nodes import FUZZED, Accepted, FuzzedNode
from robustness.smallest import Models, condition
from robustness.strange_inputs import strategy_for

InputsOf = Callable[[FuzzedNode], dict[str, Any]]
LONGEST_MESSAGE = 2000
REMEDY = re.compile(
    r"\b(give|take|choose|use|connect|set|write|leave|lower|load|make|name|put|remove|switch|shorten|check|train|get|"
    r"round|resize|paint|keep|save|start|run|add|free|must|needed|once)\b",
    re.IGNORECASE,
)
each_node = pytest.mark.parametrize("node", FUZZED, ids=lambda node: node.node)


@pytest.fixture(scope="module")
def inputs_of(models: Models, vision_models: dict[str, str], embeddings: Path, output_folder: Path) -> InputsOf:
    """By node, what it takes; with files that an input may name. No node of this file writes "shared"."""
    import folder_paths

    make_concept(models, "fuzzed")
    save(make_concept(models, "shared"), name="shared")
    photo_folder(Path(folder_paths.get_input_directory()) / "fuzzed")
    vision = {f"{kind}_model": folder for kind, folder in vision_models.items()}
    return lambda node: node.inputs(models, vision)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Previews are drawn and memory is released elsewhere; here they would be most of the time."""
    from core_personalization.nodes.host import run_control
    from core_personalization.nodes.training import concept_preview as concept_preview

    monkeypatch.setattr(concept_preview, "DDIMConfig", lambda *_: DDIMConfig(steps=1))
    # Every run would look for garbage through all that hypothesis keeps.
    monkeypatch.setattr(run_control, "gc", SimpleNamespace(collect=lambda: 0))
    yield monkeypatch


@st.composite
def changed(draw: st.DrawFn, declared: list[Any]) -> dict[str, Any]:
    """A few inputs with something else in them."""
    chosen = draw(st.lists(st.sampled_from(declared), max_size=3, unique_by=lambda each: each.id))
    return {each.id: draw(strategy) for each in chosen if (strategy := strategy_for(each)) is not None}


def wrong_with(message: str, names: set[str]) -> str | None:
    """What a message lacks."""
    named = re.match(r"(\w+):", message)
    if not named or named[1] not in names:
        return "does not begin with an input's name"
    if len(message) > LONGEST_MESSAGE:
        return f"is {len(message)} characters long"
    if not REMEDY.search(message):
        return "has no remedy"
    return "holds control characters" if re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", message) else None


def fuzz(node: FuzzedNode, inputs: Mapping[str, Any], examples: int) -> Counter[str]:
    declared = getattr(node.load(), node.node).define_schema().inputs
    names = {each.id for each in declared} | ALIASES
    outcomes = Counter[str]()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # a run is too slow to be made smaller, a hundred times over
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(changed(declared))
    @example({})
    def one_case(changes: dict[str, Any]) -> None:
        outcomes["examples"] += 1
        try:
            node.execute(inputs | changes)
        except Accepted:
            outcomes["accepted"] += 1
        except ValueError as error:
            outcomes["refused"] += 1
            note(str(error)[:500])
            assert not (lack := wrong_with(str(error), names)), f"The message {lack}: {str(error)[:300]!r}"
        else:
            outcomes["accepted"] += 1

    one_case()
    return outcomes


ALIASES = {"super_category"}
"""What a message may begin with beside an input: a concept has one, too."""


def validation(node: FuzzedNode, inputs: Mapping[str, Any], patch: pytest.MonkeyPatch, examples: int) -> None:
    """Everything up to the work."""

    def accept(*_: Any, **__: Any) -> Any:
        raise Accepted

    if node.work:
        patch.setattr(node.load(), node.work, accept)
    outcomes = fuzz(node, inputs, examples)
    print(f"\n{node.node}: {dict(outcomes)}")
    assert outcomes["accepted"] and outcomes["refused"]


def execution(node: FuzzedNode, inputs: Mapping[str, Any], models: Models, examples: int) -> None:
    before = condition(models)
    outcomes = fuzz(node, inputs, examples)
    print(f"\n{node.node}: {dict(outcomes)}")
    assert outcomes["accepted"]
    assert condition(models) == before


@each_node
def test_validation(inputs_of, patch, node):
    validation(node, inputs_of(node), patch, 60)


@each_node
@pytest.mark.long
def test_validation_at_length(inputs_of, patch, node):
    validation(node, inputs_of(node), patch, 10_000)


@each_node
def test_execution(inputs_of, models, patch, node):
    execution(node, inputs_of(node), models, 3)


@each_node
@pytest.mark.long
def test_execution_at_length(inputs_of, models, patch, node):
    execution(node, inputs_of(node), models, 500)
