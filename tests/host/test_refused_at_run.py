"""What widgets alone show to be wrong is refused when Run is pressed, by one sentence that names the input."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import fields
from typing import Any

import pytest

REFUSED = [
    ("CoReTrainEmbedding", {"concept_name": "two words"}, "concept_name"),
    ("CoReTrainEmbedding", {"super_category": " "}, "super_category"),
    ("CoReTrainEmbedding", {"super_category": "embedding:other"}, "super_category"),
    ("CoReTrainEmbedding", {"initial_words": "an embedding:other"}, "initial_words"),
    ("CoReTrainEmbedding", {"caption_template": "a photo"}, "caption_template"),
    ("CoReTrainEmbedding", {"prompt_set": "own", "own_prompts": "a {}\nno place"}, "own_prompts: line 2"),
    ("CoReTrainEmbedding", {"prompt_set": "own", "own_prompts": ""}, "own_prompts"),
    ("CoReTrainEmbedding", {"steps": 0}, "steps"),
    ("CoReTrainEmbedding", {"method": "DreamBooth"}, "method"),
    ("CoReTrainEmbedding", {"resolution": 60}, "resolution"),
    ("CoReTrainEmbedding", {"precision": "fp16"}, "precision"),
    ("CoReTrainEmbedding", {"rescale_from": 0.9, "rescale_to": 0.8}, "rescale_from"),
    ("CoReUNetIdentityFinetune", {"name": "a/b"}, "name"),
    ("CoReUNetIdentityFinetune", {"caption_template": "a {} and a {}"}, "caption_template"),
    ("CoReUNetIdentityFinetune", {"class_caption": "a {}"}, "class_caption"),
    ("CoReUNetIdentityFinetune", {"optimizer": "AdamW 8-bit"}, "optimizer"),
    ("CoReUNetIdentityFinetune", {"form": "LoRA", "save": "whole U-Net"}, "save"),
    ("CoReUNetIdentityFinetune", {"form": "T-LoRA", "least_rank": 9.0}, "least_rank"),
    ("CoReUNetIdentityFinetune", {"fused_backward": True, "precision": "fp16"}, "fused_backward"),
    ("CoReTestTimeOptimize", {"prompt": "a dog"}, "prompt"),
    ("CoReTestTimeOptimize", {"save_as": "a b"}, "save_as"),
    ("CoReTestTimeOptimize", {"width": 8}, "width"),
    ("CoReTestTimeOptimize", {"lowest_timestep": 999, "highest_timestep": 1}, "lowest_timestep"),
    ("CoReScorecard", {"clip_model": "no/such-model"}, "clip_model"),
    ("CoReScorecard", {"clip_model": "  "}, "clip_model"),
    ("CoReScorecard", {"clip_model": "<CLIP>", "dino_model": "no/such-model"}, "dino_model"),
    ("CoReScorecard", {"scorecard_name": "../x"}, "scorecard_name"),
    ("CoReEvaluationPrompts", {"prompt_set": "own", "own_prompts": "a dog"}, "own_prompts: line 1"),
    ("CoReBlindVote", {"vote_name": "../x"}, "vote_name"),
    ("CoReBlindVote", {"first_name": "second"}, "second_name"),
    ("CoReVoteResults", {}, "vote: none is chosen"),
    ("CoReContextAttentionProbe", {"layers": "listed", "layer_list": ""}, "layer_list"),
    ("CoReContextAttentionProbe", {"first_step": 3, "last_step": 2}, "first_step"),
    ("CoReContextSimilarity", {"prompt": "a dog"}, "prompt"),
    ("CoReContextSimilarity", {"words": "\n".join(map(str, range(30)))}, "words"),
    ("CoReSelectiveCaption", {"super_category": "dog, cat"}, "super_category"),
    ("CoReSelectiveCaption", {"save_to": "input", "save_folder": "../x"}, "save_folder"),
    ("CoReConceptPrompt", {"template": "a dog"}, "template"),
    ("CoReApplyConcept", {"template": "a dog"}, "template"),
    ("CoReConceptFromWords", {"words": " "}, "words"),
    ("CoReConceptFromWords", {"super_category": "a {}"}, "super_category"),
    ("CoReSaveConcept", {"name": "a b"}, "name"),
    ("CoReSaveConcept", {"description": "x" * 10_001}, "description"),
    ("CoReLoadConcept", {"file": "loras/none.safetensors"}, "file"),
    ("CoReLoadConcept", {"embedding_name": "a b"}, "embedding_name"),
    ("CoReLoadTimestepLora", {"file": "none.safetensors"}, "file"),
]


UNCHECKED = {"CoReAlsoTrain", "CoReAttentionMaps", "CoReAttentionSheet"}
"""All of them is looked at by the host."""


@pytest.fixture(scope="module")
def nodes(comfyui) -> dict[str, Any]:
    from core_personalization.nodes.extension import PersonalizationExtension

    async def listed():
        return await PersonalizationExtension().get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}


@pytest.fixture
def widgets(nodes, vision_models):
    """A node's widgets as they stand when it is made, but for models that this machine has not."""

    def of(node_id: str) -> dict[str, Any]:
        node = nodes[node_id]
        if settings := getattr(node, "SETTINGS", None):
            values = {field.name: field.default for field in fields(settings)}
        else:
            declared = node.GET_SCHEMA().inputs
            values = {each.id: each.default for each in declared if getattr(each, "default", None) is not None}
        return values | ({"clip_model": vision_models["clip"], "dino_model": ""} if node_id == "CoReScorecard" else {})

    return of


def validate(node: Any, values: dict[str, Any]) -> bool:
    """As the host calls it: only with the inputs that it names, as lists where the node takes lists."""
    as_list, signature = node.GET_SCHEMA().is_input_list, inspect.getfullargspec(node.validate_inputs)
    named = {name: value for name, value in values.items() if signature.varkw or name in signature.args}
    return node.validate_inputs(**{name: [value] if as_list else value for name, value in named.items()})


def test_every_node_accepts_what_it_is_made_with(nodes, widgets):
    from comfy_api.latest import io

    own = io.ComfyNode.validate_inputs.__func__
    checked = [name for name, node in nodes.items() if node.validate_inputs.__func__ is not own]
    assert set(nodes) - set(checked) == UNCHECKED
    for name in set(checked) - {"CoReVoteResults"}:  # It needs a vote, which there is none of yet.
        assert validate(nodes[name], widgets(name)) is True, name


@pytest.mark.parametrize(("node_id", "given", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_it_is_refused_by_a_sentence_that_names_the_input(nodes, widgets, vision_models, node_id, given, message):
    given = {name: vision_models["clip"] if value == "<CLIP>" else value for name, value in given.items()}
    with pytest.raises(ValueError, match=f"^{message}\\b"):
        validate(nodes[node_id], widgets(node_id) | given)


def test_what_a_link_brings_is_not_known_and_refuses_nothing(nodes, widgets):
    """Neither a linked widget's default nor what depends on it may refuse the others."""
    values = widgets("CoReTrainEmbedding") | {"rescale_from": 0.9}
    del values["rescale_to"]
    assert validate(nodes["CoReTrainEmbedding"], values)
    for name in nodes.keys() - UNCHECKED:
        assert validate(nodes[name], {}), name
        linked = dict.fromkeys(widgets(name), None)
        assert validate(nodes[name], linked), name


def test_the_server_takes_a_text_that_comes_by_a_link(server):
    """A widget whose value is not there yet is None for the node."""
    given = {"prompt_set": "own", "seeds_per_prompt": 1, "seed": 0, "concept_text": "sks", "super_category": ["1", 0]}
    given |= {"protocol": "own numbers", "steps": 1, "guidance": 1.0}
    graph = {
        "1": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "dog"}},
        "2": {"class_type": "CoReEvaluationPrompts", "inputs": {**given, "own_prompts": "a {} in the snow"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}},
    }
    assert server.client.submit(graph).outputs["3"]["text"] == ["a dog in the snow"]


def test_a_taken_name_is_refused_unless_this_process_wrote_it(nodes, widgets, comfyui):
    from core_personalization.nodes.files import safe_files
    from core_personalization.nodes.files.unet_files import new_file_path

    path = new_file_path("loras", "taken")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"another's")
    try:
        with pytest.raises(ValueError, match=r"^name: .* exists already"):
            validate(nodes["CoReSaveConcept"], {"name": "taken", "overwrite": False})
        assert validate(nodes["CoReSaveConcept"], {"name": "taken", "overwrite": True})
        safe_files.write_bytes(path, b"ours", overwrite=True)
        assert validate(nodes["CoReSaveConcept"], {"name": "taken", "overwrite": False})
        path.write_bytes(b"again another's")
        with pytest.raises(ValueError, match=r"^name: .* exists already"):
            validate(nodes["CoReSaveConcept"], {"name": "taken", "overwrite": False})
    finally:
        path.unlink()


def test_the_server_refuses_with_one_error_before_anything_runs(server):
    """The prompt behind a sampler is looked at before the training that it waits for."""
    import json
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    text = {"class_type": "CoReConceptPrompt", "inputs": {"template": "no place", "concept": ["2", 2]}}
    loaded = {"class_type": "CoReLoadConcept", "inputs": {}}
    shown = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    body = json.dumps({"prompt": {"1": text, "2": loaded, "3": shown}}).encode()
    request = Request(f"http://{server.process.address}/prompt", body, {"Content-Type": "application/json"})
    with pytest.raises(HTTPError) as refused:
        urlopen(request)
    errors = json.load(refused.value)["node_errors"]["1"]["errors"]
    assert [error["details"] for error in errors] == [
        "template: 'no place' has {} 0 times; write it once, where the concept goes."
    ]
