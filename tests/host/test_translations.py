"""Every text that the editor shows of our nodes, in English and Chinese: none is missing, none is left over."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from driver.texts import LOCALES, as_file, english, flat

LANGUAGES = ("en", "zh")
SAME_IN_CHINESE = {"CLIP", "VAE", "LoRA", "Latent"}
HAN = re.compile(r"[\u4e00-\u9fff]")


def texts(language: str, name: str = "nodeDefs") -> dict[str, Any]:
    return json.loads((LOCALES / language / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nodes(comfyui) -> dict[str, Any]:
    """What the server tells the editor of each node, by id."""
    from core_personalization.nodes.extension import PersonalizationExtension

    async def listed():
        return await PersonalizationExtension().get_node_list()

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in asyncio.run(listed())}


def test_the_english_file_is_what_the_script_makes_of_the_nodes(nodes):
    written = (LOCALES / "en" / "nodeDefs.json").read_text(encoding="utf-8")
    assert written == as_file(english(nodes)), "run: python scripts/texts.py"


def test_every_text_is_translated_and_none_is_left_over():
    assert flat(texts("zh")).keys() == flat(texts("en")).keys()
    assert flat(texts("zh", "main")).keys() == flat(texts("en", "main")).keys()


def test_no_translation_is_empty_or_a_copy():
    originals = flat(texts("en"))
    for key, text in flat(texts("zh")).items():
        assert text.strip() == text != "", key
        assert HAN.search(text) or (text in SAME_IN_CHINESE and originals[key].lower() == text.lower()), key


def test_a_translation_keeps_the_placeholders_and_figures():
    """{} and embedding: as they are typed, and the papers' numbers."""
    translated = flat(texts("zh"))
    for key, text in flat(texts("en")).items():
        for pattern in (r"\{\d?\}", r"embedding:", r"\d+(?:\.\d+)?"):
            found = [set(re.findall(pattern, version)) for version in (text, translated[key])]
            assert found[0] <= found[1] | spelled_out(translated[key]), key


def spelled_out(text: str) -> set[str]:
    """Digits that Chinese writes as words, as in 第一阶段."""
    return {digit for digit, word in zip("123", "一二三", strict=True) if f"第{word}" in text}


def test_two_inputs_of_a_node_are_never_called_the_same():
    for language in LANGUAGES:
        for node_id, node in texts(language).items():
            for sockets in (node["inputs"], node["outputs"]):
                names = [socket["name"] for socket in sockets.values()]
                assert len(set(names)) == len(names), node_id


def test_what_the_editor_reads_as_messages_has_no_syntax():
    """vue-i18n gives {} @ | a meaning; the editor reads tooltips alone as they are (stRaw in its i18n.ts)."""
    for language in LANGUAGES:
        for key, text in (flat(texts(language)) | flat(texts(language, "main"))).items():
            assert key.endswith(".tooltip") or not re.search(r"[{}@|]", text), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_and_types_have_a_name(nodes, language):
    main = texts(language, "main")
    assert set(main["nodeCategories"]) == {node["category"] for node in nodes.values()}
    sockets = {kind for node in nodes.values() for kind in node["output"]}
    assert set(main["dataTypes"]) == {kind for kind in sockets if kind.startswith("CORE_")}
