"""The node "Selectively Informative Captions" on a real ComfyUI: its text generation, tokenizers and execution."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from families.load import load_family
from families.vision_language import load_vision_language

ANSWER = "A photo of one fluffy brown dog, sitting under a wooden table."
OWN = "a {} in the snow\na {} on a rug\na {} by a lake"
CAPTION = "a photo of a {}, sitting under a wooden table"


@pytest.fixture(scope="module")
def reader():
    """A vision-language model that always answers `ANSWER`."""
    return load_vision_language(ANSWER)


@pytest.fixture(scope="module")
def random_reader():
    return load_vision_language()


@pytest.fixture(scope="module")
def clip():
    return load_family("sd1")[1]


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[torch.Tensor]:
    """[1, H, W, 3] each, as 8-bit files hold them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        return [torch.randint(0, 256, (1, h, w, 3), generator=generator) / 255 for h, w in sizes or [(64, 64)] * 3]


def execute(images=None, vision_clip=None, clip=None, captions=None, **settings) -> tuple[list[str], str]:
    """The node as the host runs it: under inference mode, every input a list."""
    from core_personalization.nodes.captions.selective_caption import SelectiveCaption

    values = {name: [value] for name, value in {"super_category": "dog", **settings}.items()}
    listed = [None if value is None else [value] for value in (vision_clip, clip)]
    with torch.inference_mode():
        return SelectiveCaption.execute(images or pictures(), *listed, captions, **values).args


def accepted_by_the_training_nodes(captions: list[str]) -> bool:
    from core_personalization.nodes.training.training_inputs import caption_templates

    return caption_templates(captions, len(captions), "a photo of a {}") == captions


# Sources


def test_a_vision_language_model_answers_and_the_answer_is_repaired(reader):
    before = {name: value.clone() for name, value in reader.cond_stage_model.state_dict().items()}
    captions, report = execute(vision_clip=reader)
    assert captions == [CAPTION] * 3
    after = reader.cond_stage_model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert accepted_by_the_training_nodes(captions)
    assert "image 2 (model)" in report and "removed about the subject: fluffy brown" in report


def test_typed_text_wins_over_connected_captions_and_these_over_the_model(reader):
    captions, report = execute(
        vision_clip=reader,
        captions=["a dog by a lake", "a dog on a rug", ""],
        own_captions="a {} in the snow\n\n-\n-\n",
    )
    assert captions == ["a {} in the snow", "a photo of a {} on a rug", CAPTION]
    assert [f"image {n + 1} ({source})" in report for n, source in enumerate(("typed", "captions", "model"))] == [
        True
    ] * 3


def test_a_text_with_a_line_per_image_is_a_list_of_captions():
    images = [torch.cat(pictures((64, 64), (64, 64)))]
    assert execute(images, captions=["a dog by a lake\na dog on a rug"])[0] == [
        "a photo of a {} by a lake",
        "a photo of a {} on a rug",
    ]


def test_case_1_needs_no_text_and_asks_nobody(random_reader):
    captions, report = execute(vision_clip=random_reader, case="Case 1: class only", own_captions="x")
    assert captions == ["a photo of a {}"] * 3
    assert "class only" in report


def test_nonsense_becomes_captions_that_training_takes(random_reader, clip):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    images = pictures((64, 64), (40, 100), (64, 64))
    captions, _ = execute(images, random_reader, clip, temperature=1.0, max_tokens=64, vectors=4)
    assert accepted_by_the_training_nodes(captions)
    rows = PromptRows(clip, "dog", 4)
    for caption in captions:
        rows.concept(caption.replace("{}", "{} dog"))


def test_the_answer_depends_on_the_picture_and_on_the_seed(random_reader):
    from core_personalization.nodes.host.models.text_generation import Generation, describe

    def answer(seed: int, picture: torch.Tensor) -> str:
        with torch.inference_mode():
            return describe(random_reader, "What is this?", picture, Generation(16, 1.0, seed))

    black, white = torch.zeros(3, 64, 64), torch.ones(3, 64, 64)
    assert answer(0, black) == answer(0, black)
    assert answer(0, black) != answer(0, white)
    assert answer(0, black) != answer(1, black)


def test_the_model_is_asked_as_core_generate_text_asks_it(reader, monkeypatch):
    """Same tokens, same sampling values."""
    from comfy_extras.nodes_textgen import TextGenerate
    from core_personalization.nodes.host.models.text_generation import Generation, describe

    calls: list[tuple[Any, dict]] = []
    monkeypatch.setattr(reader, "generate", lambda tokens, **given: calls.append((tokens, given)) or [1])
    picture = torch.rand(1, 64, 96, 3)
    sampling = {"sampling_mode": "on", "temperature": 0.5, "top_k": 64, "top_p": 0.95, "min_p": 0.05}
    sampling |= {"seed": 7, "repetition_penalty": 1.05}
    TextGenerate.execute(reader, "What?", 32, sampling, image=picture)
    describe(reader, "What?", picture[0].movedim(-1, 0), Generation(32, 0.5, 7))
    TextGenerate.execute(reader, "What?", 32, {"sampling_mode": "off"}, image=picture)
    describe(reader, "What?", picture[0].movedim(-1, 0), Generation(32, 0.0, 7))
    for (core_tokens, core), (our_tokens, ours) in (calls[:2], calls[2:]):
        assert ids(core_tokens) == ids(our_tokens)
        relevant = set(core) if core["do_sample"] else {"do_sample", "max_length"}
        assert {name: core[name] for name in relevant if core[name]} == {
            name: ours[name] for name in relevant if core[name]
        }


def ids(tokens: dict) -> list:
    return [
        entry[0] if isinstance(entry[0], int) else entry[0]["data"].tolist()
        for rows in tokens.values()
        for row in rows
        for entry in row
    ]


def test_a_large_picture_is_made_smaller_in_its_proportions(reader, monkeypatch):
    from core_personalization.nodes.host.models.text_generation import MOST_PIXELS, Generation, describe

    seen: list[torch.Tensor] = []
    tokenize = reader.tokenize
    monkeypatch.setattr(reader, "tokenize", lambda *a, image, **k: seen.append(image) or tokenize(*a, image=image, **k))
    monkeypatch.setattr(reader, "generate", lambda tokens, **given: [1])
    describe(reader, "What?", torch.rand(3, 1000, 3000), Generation(16, 0.0, 0))
    _, height, width, channels = seen[0].shape
    assert channels == 3 and 0.98 * MOST_PIXELS < height * width <= 1.01 * MOST_PIXELS
    assert width / height == pytest.approx(3, rel=0.01)


# Length


@pytest.mark.parametrize("vectors", [1, 40])
def test_with_clip_the_diffusion_models_own_tokenizer_is_the_measure(clip, vectors):
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    text = "a photo of a dog " + ", ".join(f"next to an extraordinarily ornamented chiffonier {n}" for n in range(20))
    (caption,), report = execute(pictures((64, 64)), clip=clip, own_captions=text, vectors=vectors)
    assert "shortened at a clause" in report and "Length bound by words" not in report
    PromptRows(clip, "dog", vectors).concept(caption.replace("{}", "{} dog"))
    longer = text.replace("a photo of a dog", "a photo of a {}")[: len(caption) + 60]
    assert longer.startswith(caption)
    with pytest.raises(ValueError, match="rows of 77"):
        PromptRows(clip, "dog", vectors).concept(longer.replace("{}", "{} dog"))


def test_without_clip_words_are_the_measure_and_the_report_says_so():
    (caption,), report = execute(pictures((64, 64)), own_captions="a photo of a dog " + "on a rug, " * 60)
    assert len(caption.split()) <= 50 and "Length bound by words" in report


# Saving


@pytest.fixture
def folder(comfyui) -> Path:
    """A new folder in the host's input folder."""
    import folder_paths

    return Path(folder_paths.get_input_directory()) / f"set-{uuid.uuid4().hex[:8]}"


def test_what_is_saved_and_loaded_by_core_is_taken_as_it_is(folder):
    from comfy_extras.nodes_dataset import LoadImageTextDataSetFromFolderNode

    captions, report = execute(own_captions=OWN, save_to="input", save_folder=folder.name)
    assert str(folder) in report
    images, texts = LoadImageTextDataSetFromFolderNode.execute(folder.name).args
    assert sorted(texts) == sorted(captions)
    again, report = execute(images, captions=texts)
    assert again == texts and report.count("as it came") == 3


def test_where_to_save_is_settled_before_the_model_is_asked(folder, random_reader, monkeypatch):
    execute(own_captions=OWN, save_to="input", save_folder=folder.name)
    monkeypatch.setattr(random_reader, "generate", lambda *_, **__: pytest.fail("asked"))
    for images in (pictures(), pictures(seed=1)):
        with pytest.raises(ValueError, match="save_folder"):
            execute(images, random_reader, save_to="input", save_folder=folder.name)


# Refusals


def test_a_start_that_leaves_no_room_is_refused_before_the_model_is_asked(random_reader, monkeypatch):
    monkeypatch.setattr(random_reader, "generate", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=r"start: 'a \{\}, very .*… alone does not fit") as error:
        execute(pictures(), random_reader, start="a {}, " + "very " * 2000)
    assert len(str(error.value)) < 400


def test_what_cannot_be_captioned_is_refused(clip, reader):
    def refused(message: str, *args: Any, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message):
            execute(*args, **settings)

    refused("images: none came", [torch.rand(0, 8, 8, 3)])
    refused("images: picture 0 has 4×4 pixels", [torch.rand(1, 4, 4, 3)])
    refused("image 1 of 3 has no text")
    refused("image 2 of 3 has no text", captions=["a dog", "", "a dog"])
    refused("own_captions: 2 lines for 3 images", own_captions="a {}\na {}")
    refused("captions: 2 came for 3 images", captions=["a {}", "a {}"])
    refused("SD1ClipModel generates no text", vision_clip=clip)
    refused("clip: .* is not the text encoder", clip=reader, own_captions=OWN)
    refused("super_category", own_captions=OWN, super_category="(dog:1.2)")
    refused("start: .* 0 times", own_captions=OWN, start="a photo")
    refused("start: .* alone does not fit", own_captions=OWN, clip=clip, vectors=64, start="a {}, " + "very " * 10)
    refused("case: 'Case 5' is not one of", case="Case 5")


@pytest.mark.parametrize("lacks", ["the place in its prompt", "the vision tower"])
def test_a_model_that_reads_no_pictures_is_refused(reader, monkeypatch, lacks):
    """As Qwen-Image's prompt, into which core's Generate Text puts no image; as Gemma 3 without vision."""
    if lacks == "the vision tower":
        monkeypatch.delattr(type(reader.cond_stage_model.qwen3vl_8b.transformer).__mro__[1], "preprocess_embed")
    else:
        monkeypatch.setattr(reader.tokenizer, "llama_template_images", reader.tokenizer.llama_template)
    with pytest.raises(ValueError, match="reads no pictures"):
        execute(vision_clip=reader)


# The whole node, run by ComfyUI


class Messages:
    """Takes the place of the server: keeps what a browser would get, and may act on it."""

    def __init__(self, on_message: Callable[[str, Any], object] = lambda event, data: None) -> None:
        self.client_id, self.last_node_id = "test", None
        self.sent: list[tuple[str, Any]] = []
        self._on_message = on_message

    def send_sync(self, event: Any, data: Any, sid: Any = None) -> None:
        self.sent.append((event, data))
        self._on_message(event, data)

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.send_sync("progress_text", text)


@pytest.fixture
def run(comfyui, reader, monkeypatch):
    """Runs a graph of a loader, our node and core's preview through ComfyUI's executor."""
    import execution
    import server
    from comfy_extras.nodes_preview_any import PreviewAny
    from core_personalization.nodes.captions.selective_caption import SelectiveCaption

    class Loader:
        RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "CLIP"), "load", "test"
        OUTPUT_IS_LIST = (True, False)
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})

        def load(self):
            return pictures(), reader

    classes = {"TestLoader": Loader, "CoReSelectiveCaption": SelectiveCaption, "PreviewAny": PreviewAny}
    for name, node in classes.items():
        monkeypatch.setitem(import_module("nodes").NODE_CLASS_MAPPINGS, name, node)

    def run(messages: Messages, **inputs) -> Any:
        monkeypatch.setattr(server.PromptServer, "instance", messages, raising=False)
        defaults = {
            field.id: field.default for field in SelectiveCaption.GET_SCHEMA().inputs if hasattr(field, "default")
        }
        defaults = {name: value for name, value in defaults.items() if name != "captions"}
        graph = {
            "1": {"class_type": "TestLoader", "inputs": {}},
            "2": {
                "class_type": "CoReSelectiveCaption",
                "inputs": {**defaults, "images": ["1", 0], "vision_clip": ["1", 1], **inputs},
            },
            "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        }
        executor = execution.PromptExecutor(
            messages, execution.CacheType.NONE, {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        )
        executor.execute(graph, "prompt", {"client_id": "test"}, ["2", "3"])
        return executor

    return run


def test_through_comfyuis_executor_captions_are_shown_and_passed_on(run):
    messages = Messages()
    executor = run(messages)
    assert executor.success, executor.status_messages
    shown = {data["node"]: data["output"] for event, data in messages.sent if event == "executed"}
    assert shown["2"]["text"] == ["\n".join([CAPTION] * 3)]
    assert len(shown["2"]["images"]) == 3
    assert CAPTION in shown["3"]["text"][0]
    texts = [data for event, data in messages.sent if event == "progress_text"]
    assert [text.split(" · ")[0] for text in texts[:3]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert texts[-1].startswith("\n".join([CAPTION] * 3)) and "image 1 (model)" in texts[-1]


def test_cancel_takes_effect_between_two_images_and_saves_nothing(run, folder):
    import comfy.model_management

    def cancel(event, data):
        if event == "progress_text" and data.startswith("step 1/3"):
            comfy.model_management.interrupt_current_processing()

    messages = Messages(cancel)
    executor = run(messages, save_to="input", save_folder=folder.name)
    assert not executor.success
    assert "execution_interrupted" in [event for event, _ in messages.sent]
    assert [data for event, data in messages.sent if event == "progress_text" and data.startswith("step 2/3")] == []
    assert not folder.exists()
