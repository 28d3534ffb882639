"""What our nodes say in the Chinese editor: editor/messages.js, with the catalogue and in the window."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from driver import quick_start
from driver.mini_world import CONCEPT
from hypothesis import given, settings
from hypothesis import strategies as st
from preparation.by_place import ROOT

CATALOGUE: dict[str, str] = json.loads((ROOT / "locales" / "zh" / "messages.json").read_text(encoding="utf-8"))
PLACE = re.compile(r"\{(\d+)\}")
TRAIN, PROMPT = 1, 2

# Into the other language, and what came of that back.
_THERE_AND_BACK = """async ([catalogue, texts]) => {
    const {translator} = await import('/extensions/personalization/messages.js');
    const back = Object.fromEntries(Object.entries(catalogue).map(([known, other]) => [other, known]));
    const there = texts.map(translator(catalogue));
    return [there, there.map(translator(back))];
}"""
ODD = st.text(alphabet="aZ9é狗🐶 _-/\\'\"{}$&[]*+?^|<>@%#~`=!\t", min_size=1, max_size=12)
"""All that a pattern, or a text that is put in its place, could take for its own; without parentheses, by which
sentences tell their values apart."""


@pytest.fixture(scope="module")
def translate(opened):
    """Texts → in Chinese, and from there in English."""
    return lambda texts, catalogue=CATALOGUE: opened.evaluate(_THERE_AND_BACK, [catalogue, texts])


def counts(known: str) -> bool:
    return any(re.fullmatch(r"\{0\} ?[^\W\d_]+", text) for text in (known, CATALOGUE[known]))


def filled(template: str, values: list[str]) -> str:
    return PLACE.sub(lambda found: values[int(found[1])], template)


@given(values=st.lists(ODD, min_size=6, max_size=6), number=st.integers(2, 10**9))
@settings(max_examples=25)
def test_every_sentence_is_translated_whatever_its_values_are(translate, values, number):
    """And from its Chinese back: nothing is lost. Of one thing there is a sentence of its own."""
    given_to = {known: [str(number)] if counts(known) else values for known in CATALOGUE}
    english = [filled(known, given_to[known]) for known in CATALOGUE]
    there, back = translate(english)
    assert there == [filled(CATALOGUE[known], given_to[known]) for known in CATALOGUE]
    assert back == english


@pytest.mark.parametrize(
    ("said", "chinese"),
    [
        (
            "12 pictures, 2 skipped: My dog 1.heic (install pillow-heif), notes.pdf (no picture)\nno captions, 1 mask",
            "12 张图像，跳过 2 个：My dog 1.heic（请安装 pillow-heif）、notes.pdf（不是图像）\n没有描述、1 个遮罩",
        ),
        (
            "1 picture, 1 skipped: a.png (its mask a.mask.png: 30×30 pixels are another shape than 64×48; make it of "
            "the same size)",
            "1 张图像，跳过 1 个：a.png（其遮罩 a.mask.png：30×30 像素与 64×48 的形状不同；请使尺寸相同）",
        ),
        (
            "Note: small, so that they are enlarged more than twice at 512 pixels, which is learned as blur: a.png; "
            "use larger ones.",
            "提示：尺寸太小，在 512 像素时要放大两倍以上，会被学成模糊：a.png；请用更大的图像。",
        ),
        (
            "concept_name: an embedding 'rex' exists already at /e/rex.safetensors, trained with steps 3 (now 4) and "
            "other pictures; choose another name, or switch overwrite on to train anew.",
            "concept_name: 嵌入 'rex' 已存在于 /e/rex.safetensors，训练时为：steps 3（现为 4）和别的图像；"
            "请另取名称，或打开“替换同名文件”以重新训练。",
        ),
        (
            "The training needs about 4.25 GiB (models and trained weights 1.00 GiB, a step 3.25 GiB), found 9.00 GiB "
            "on cuda:0, took 3.98 GiB.",
            "训练约需 4.25 GiB（模型和训练的权重 1.00 GiB、一步 3.25 GiB），可用 9.00 GiB，位于 cuda:0，实际占用 "
            "3.98 GiB。",
        ),
        ("step 3/100 · 2 min left · loss 0.12 (step 2)", "第 3/100 步 · 剩余 2 分钟 · 损失 0.12（第 2 步）"),
        (
            "Done. Write embedding:rex in any prompt.\nrex.safetensors: 300 steps, 3 of them before it stopped, "
            "2 min 05 s",
            "完成。在任意提示词中写 embedding:rex。\nrex.safetensors: 300 步（其中 3 步在停止之前），用时 2 分 05 秒",
        ),
        (
            "rex: stopped after step 7. Kept: /models/embeddings/rex-step7.safetensors, and a state, from which Run "
            "goes on.",
            "rex: 在第 7 步之后停止。已保留：/models/embeddings/rex-step7.safetensors，以及状态，再次运行即可继续。",
        ),
        (
            "Note: CoRe's terms had 0.2% of the gradient: they hardly acted. Choose “Regularizers' weights”: balanced.",
            "提示：CoRe 的正则项只占梯度的 0.2%：几乎不起作用。请将“正则项权重”设为 balanced。",
        ),
        (
            "own_prompts: line 3: 'no place' has {} 0 times; write it once, where the concept goes.",
            "own_prompts: 行 3: 'no place' 含 {} 0 次；请只在概念的位置写一次。",
        ),
        (
            "picture 2 (model): removed quotation marks; removed about the subject: fluffy brown",
            "图像 2（模型）：去除了引号；去除了关于主体的内容：fluffy brown",
        ),
        (
            "Out of memory. Lower batch_size or resolution, or switch gradient_checkpointing on.",
            "内存不足。请调低 batch_size 或“分辨率”，或打开 gradient_checkpointing。",
        ),
        (
            "What it is: teddy bear\nMade for: v1-5.safetensors\nWith: a LoRA",
            "它是什么：teddy bear\n适用模型：v1-5.safetensors\n包含：一个 LoRA",
        ),
    ],
)
def test_a_sentence_in_a_sentence_is_translated_too(translate, said, chinese):
    (there,), _ = translate([said])
    assert there == chinese


@pytest.mark.parametrize(
    "text",
    [
        "a photo of a {} on a wooden floor, another dog in the background, two pictures",
        "a {} in the snow: a number, and a text",
        "My first LoRA; trained on 12 photos (no picture of the back)",
        "pictures of my dog, other dogs and 3 steps",
        "",
        "\n\n",
    ],
)
def test_what_a_user_wrote_stays(translate, text):
    assert translate([text])[0] == [text]


@pytest.fixture
def graph(in_chinese, editor):
    editor.load_training(TRAIN, PROMPT)
    yield editor
    editor.stop_all()


def test_a_wrong_input_is_refused_in_chinese(graph):
    """By the overlay, which has the sentence in place of the node's English one, and on the node."""
    graph.set_value(TRAIN, "concept_name", "two words")
    assert list(graph.run()["node_errors"]) == [str(TRAIN)]
    assert "'two words' 不能用作名称；只能用字母、数字" in graph.complaint("不能用作名称")
    assert graph.text(TRAIN).startswith("✖ 名称: 'two words' 不能用作名称")


def test_what_fails_later_is_chinese_on_the_node_and_in_a_message(graph):
    graph.set_value(TRAIN, "caption_template", "a {} " + "very " * 80)
    assert graph.run()["node_errors"] == {}
    text = graph.wait_for_text(TRAIN, "^✖ 默认图像描述: .* 需要 2 行，每行 77 个词元；请缩短到一行")
    assert text.removeprefix("✖ ") in graph.complaint("每行 77 个词元")


def test_a_nodes_notes_and_results_are_chinese_and_captions_stay(graph, server):
    folder = server.process.base.input / "twice"
    folder.mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        shutil.copyfile(quick_start.CONCEPT_IMAGES / CONCEPT / "0.png", folder / name)
    graph.load({"nodes": [{"id": 1, "type": "CoReConceptImages", "pos": [200, 100]}], "links": [], "version": 0.4})
    graph.set_value(1, "folder", "twice")
    graph.evaluate("() => app.graph.getNodeById(1).widgets.find((w) => w.name === 'folder').callback('twice')")
    text = graph.wait_for_text(1, "提示：a.png")
    assert text.splitlines()[:2] == ["2 张图像", "没有描述、没有遮罩"]
    assert "提示：a.png, b.png 是同一张图像；请只留一张。" in text
