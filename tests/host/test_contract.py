"""What the nodes promise to workflows and to the page that explains them, as ComfyUI sees it."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELP_PAGES = ROOT / "web" / "docs"
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))

# Workflows are shared with these names in them: one may be added, none renamed or taken away.
NODE_IDS = (
    "CoReAlsoTrain",
    "CoReApplyConcept",
    "CoReAttentionMaps",
    "CoReAttentionSheet",
    "CoReBlindVote",
    "CoReConceptFromWords",
    "CoReConceptImages",
    "CoReConceptPrompt",
    "CoReContextAttentionProbe",
    "CoReContextSimilarity",
    "CoReEvaluationPrompts",
    "CoReLoadConcept",
    "CoReLoadTimestepLora",
    "CoReSaveConcept",
    "CoReScorecard",
    "CoReSelectiveCaption",
    "CoReTestTimeOptimize",
    "CoReTrainEmbedding",
    "CoReUNetIdentityFinetune",
    "CoReVoteResults",
)
MOST_WIDGETS = 12
ONLY_IN_THE_EDITOR = {"MarkdownNote", "Note", "Reroute", "PrimitiveNode"}
# What the user chooses: files and folders, which a list names that are there.
CHOSEN_BY_THE_USER = {
    ("CheckpointLoaderSimple", "ckpt_name"),
    ("CoReConceptImages", "folder"),
    ("CoReLoadConcept", "file"),
    ("LoadImage", "image"),
    ("LoadImageDataSetFromFolder", "folder"),
    ("PhotoMakerLoader", "photomaker_model_name"),
    ("UNETLoader", "unet_name"),
    ("CLIPLoader", "clip_name"),
    ("VAELoader", "vae_name"),
}

# What people type into the node search, and what they are to find first of all.
SEARCHED = {
    "textual inversion": {"CoReTrainEmbedding", "CoReConceptPrompt"},
    "train embedding": {"CoReTrainEmbedding"},
    "dreambooth": {"CoReUNetIdentityFinetune"},
    "train lora": {"CoReUNetIdentityFinetune"},
    "attndreambooth": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "custom diffusion": {"CoReUNetIdentityFinetune"},
    "personalization": {"CoReTrainEmbedding", "CoReTestTimeOptimize", "CoReScorecard"},
    "lora training": {"CoReUNetIdentityFinetune"},
    "train my face": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "my dog": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "person": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "style": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "teach": {"CoReTrainEmbedding", "CoReUNetIdentityFinetune"},
    "attention map": {"CoReContextAttentionProbe", "CoReAttentionMaps"},
    "cross-attention": {"CoReContextAttentionProbe", "CoReAttentionMaps"},
    "heat map": {"CoReContextAttentionProbe", "CoReAttentionMaps"},
    "word ignored": {"CoReContextAttentionProbe", "CoReContextSimilarity", "CoReTestTimeOptimize"},
    "caption": {"CoReSelectiveCaption"},
    "clip score": {"CoReScorecard"},
    "share concept": {"CoReSaveConcept"},
    "load concept": {"CoReLoadConcept"},
    "evaluation": {"CoReEvaluationPrompts"},
    "user study": {"CoReBlindVote", "CoReVoteResults"},
    "load folder": {"CoReConceptImages"},
    "load dataset": {"CoReConceptImages"},
    "upload images": {"CoReConceptImages"},
}


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    """Node classes by id, through the entry point that ComfyUI calls."""
    import core_personalization

    async def registered():
        extension = await core_personalization.comfy_entrypoint()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(registered())}


@pytest.fixture(scope="module")
def settings() -> dict[str, type]:
    """The dataclasses whose fields are inputs of a node."""
    from core_personalization.nodes.captions.caption_settings import CaptionSettings
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.evaluation.evaluation_settings import ScorecardSettings
    from core_personalization.nodes.evaluation.prompt_batch_settings import PromptBatchSettings
    from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
    from core_personalization.nodes.insight.attention_settings import MapSettings, ProbeSettings, SheetSettings
    from core_personalization.nodes.insight.context_similarity import SimilaritySettings
    from core_personalization.nodes.photos.photo_settings import PhotoSettings
    from core_personalization.nodes.refinement.refinement_settings import RefinementSettings
    from core_personalization.nodes.votes.ballot_settings import BallotSettings, ResultSettings

    return {
        "CoReAttentionMaps": MapSettings,
        "CoReAttentionSheet": SheetSettings,
        "CoReBlindVote": BallotSettings,
        "CoReConceptImages": PhotoSettings,
        "CoReContextAttentionProbe": ProbeSettings,
        "CoReContextSimilarity": SimilaritySettings,
        "CoReEvaluationPrompts": PromptBatchSettings,
        "CoReScorecard": ScorecardSettings,
        "CoReSelectiveCaption": CaptionSettings,
        "CoReTestTimeOptimize": RefinementSettings,
        "CoReTrainEmbedding": EmbeddingSettings,
        "CoReUNetIdentityFinetune": FinetuneSettings,
        "CoReVoteResults": ResultSettings,
    }


def input_ids(node: Any) -> list[str]:
    return [declared.id for declared in node.GET_SCHEMA().inputs]


def test_the_ids_are_those_that_workflows_were_saved_with(nodes):
    assert tuple(sorted(nodes)) == NODE_IDS


@pytest.mark.every_comfyui
def test_every_schema_is_valid_for_the_host(nodes):
    for node in nodes.values():
        node.VALIDATE_CLASS()
        node.GET_SCHEMA().validate()


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_input_has_a_tooltip(nodes, node_id):
    for declared in nodes[node_id].GET_SCHEMA().inputs:
        assert declared.tooltip and declared.tooltip.strip(), declared.id


def widgets_of(node: Any) -> list[Any]:
    """Inputs that are drawn as a widget, in their order."""
    declared = node.GET_SCHEMA().inputs
    return [each for each in declared if hasattr(each, "default") and not getattr(each, "force_input", None)]


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_at_most_twelve_widgets_are_open_and_text_boxes_are_last(nodes, node_id):
    """Of the open and the advanced ones alike: a box takes what room there is."""
    widgets = widgets_of(nodes[node_id])
    assert sum(not widget.advanced for widget in widgets) <= MOST_WIDGETS
    lines = [widget for widget in widgets if not getattr(widget, "multiline", None)]
    assert widgets[: len(lines)] == lines
    assert [bool(widget.advanced) for widget in lines] == sorted(bool(widget.advanced) for widget in lines)


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_every_widget_has_a_label_that_the_help_page_says(nodes, node_id):
    page = (HELP_PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    for widget in widgets_of(nodes[node_id]):
        assert widget.display_name and widget.display_name != widget.id, widget.id
        if f"\n| `{widget.id}` |" in page:
            assert f"| `{widget.id}` | *{widget.display_name}.*" in page, widget.id


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_what_shows_an_input_can_be_chosen_and_the_input_is_there(nodes, node_id):
    declared = nodes[node_id].GET_SCHEMA().inputs
    names = {widget.id for widget in widgets_of(nodes[node_id])}
    for each in declared:
        shows = each.as_dict().get("shows", {})
        of_others = ["true", "false"] if each.id in names else ["connected", ""]
        assert set(shows) <= set(getattr(each, "options", None) or of_others), each.id
        assert {name for shown in shows.values() for name in shown} <= names - {each.id}, each.id


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_inputs_are_executes_sockets_and_the_settings_fields(nodes, settings, node_id):
    node = nodes[node_id]
    parameters = inspect.signature(node.execute).parameters.values()
    sockets = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    takes_more = len(sockets) < len(parameters)
    assert takes_more == (node_id in settings)
    declared_fields = [field.name for field in fields(settings[node_id])] if takes_more else []
    assert input_ids(node) == [socket.name for socket in sockets] + declared_fields


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_only_inputs_without_a_default_are_required(nodes, node_id):
    parameters = inspect.signature(nodes[node_id].execute).parameters
    for declared in nodes[node_id].GET_SCHEMA().inputs:
        if declared.id in parameters:
            assert declared.optional == (parameters[declared.id].default is not inspect.Parameter.empty), declared.id


def test_every_default_of_a_setting_is_what_the_node_shows(nodes, settings):
    for node_id, dataclass in settings.items():
        shown = {declared.id: declared for declared in nodes[node_id].GET_SCHEMA().inputs}
        for field in fields(dataclass):
            assert shown[field.name].default == field.default, field.name


def test_every_node_has_a_help_page_and_no_page_is_left_over(nodes):
    assert {page.stem for page in HELP_PAGES.glob("*.md")} == set(nodes)


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_the_help_page_explains_every_input_and_output(nodes, node_id):
    schema = nodes[node_id].GET_SCHEMA()
    page = (HELP_PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    names = [declared.id for declared in schema.inputs] + [output.display_name for output in schema.outputs]
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_uses_only_nodes_that_the_server_knows(server, workflow):
    known = server.client.get("/object_info").keys()
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    subgraphs = {subgraph["id"] for subgraph in graph.get("definitions", {}).get("subgraphs", [])}
    assert {node["type"] for node in nodes_of(graph)} - known - ONLY_IN_THE_EDITOR - subgraphs == set()


def nodes_of(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the workflow and of its subgraphs."""
    return [node for each in (graph, *graph.get("definitions", {}).get("subgraphs", [])) for node in each["nodes"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_value_and_link_of_a_workflow_is_legal(server, workflow):
    """Of all nodes, also core's, as the server gets them when the user clicks Run."""
    known = server.client.get("/object_info")
    sent = server.client.convert(json.loads(workflow.read_text(encoding="utf-8")))
    assert sent
    for node in sent.values():
        declared = known[node["class_type"]]["input"]
        inputs = declared.get("required", {}) | declared.get("optional", {})
        dynamic = {name for name, (kind, *_) in inputs.items() if str(kind).startswith("COMFY_")}
        for name in inputs.keys() - dynamic - node["inputs"].keys():
            assert name in declared.get("optional", {}), f"{node['class_type']} lacks {name}"
        for name, value in node["inputs"].items():
            where = f"{node['class_type']}.{name} = {value!r}"
            assert name in inputs or name.split(".")[0] in dynamic, where
            if name in inputs and name not in dynamic and (node["class_type"], name) not in CHOSEN_BY_THE_USER:
                assert is_legal(value, inputs[name], sent, known), where


def is_legal(value: Any, declared: list[Any], sent: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether an input declared as [type, options] takes a value, or what a link [node, output] leads to."""
    kind, options = declared[0], declared[1] if len(declared) > 1 else {}
    if isinstance(value, list):
        source, output = value
        given = known[sent[source]["class_type"]]["output"][output]
        return "*" in (kind, given) or isinstance(kind, list) or bool(set(given.split(",")) & set(kind.split(",")))
    choices = kind if isinstance(kind, list) else options.get("options")
    if choices is not None:
        return value in choices
    if kind in ("INT", "FLOAT"):
        return options.get("min", -math.inf) <= value <= options.get("max", math.inf)
    return isinstance(value, {"STRING": str, "BOOLEAN": bool}[kind])


@pytest.mark.parametrize("words", SEARCHED)
def test_the_search_finds_the_node_for_what_people_call_it(nodes, words):
    def named(schema: Any) -> str:
        return "\n".join([schema.display_name, *schema.search_aliases]).lower()

    found = {node_id for node_id, node in nodes.items() if words in named(node.GET_SCHEMA())}
    assert found >= SEARCHED[words]


def test_search_words_are_short_and_none_stands_twice(nodes):
    for node in nodes.values():
        aliases = node.GET_SCHEMA().search_aliases
        assert len({alias.lower() for alias in aliases}) == len(aliases), node
        assert all(alias == alias.strip() and len(alias) <= 40 for alias in aliases), node


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_gives_every_setting_a_legal_value(nodes, settings, workflow):
    """Values are saved by position: an input that comes in between would shift those after it."""
    from core_personalization.nodes.settings import validated

    for node in nodes_of(json.loads(workflow.read_text(encoding="utf-8"))):
        if node["type"] in settings:
            own = {field.name for field in fields(settings[node["type"]])}
            widgets = [declared.id for declared in widgets_of(nodes[node["type"]])]
            values = dict(zip(widgets, node["widgets_values"], strict=True))
            validated(settings[node["type"]], {name: value for name, value in values.items() if name in own})


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_what_a_choice_fills_in_are_legal_values_of_other_inputs(nodes, settings, node_id):
    from core_personalization.nodes.settings import validated

    for declared in nodes[node_id].GET_SCHEMA().inputs:
        fills = declared.as_dict().get("fills")
        if fills:
            assert list(fills) == declared.options
            for option, values in fills.items():
                assert declared.id not in values
                validated(settings[node_id], {declared.id: option, **values})


def test_choosing_the_default_method_fills_in_the_defaults(nodes):
    filled = 0
    for node in nodes.values():
        inputs = {declared.id: declared.as_dict() for declared in node.GET_SCHEMA().inputs}
        for declared in inputs.values():
            for name, value in declared.get("fills", {}).get(declared.get("default"), {}).items():
                assert inputs[name]["default"] == value, f"{node.__name__}: {name}"
                filled += 1
    assert filled
