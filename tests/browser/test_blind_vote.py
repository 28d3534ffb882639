"""A blind vote from the node to its results, voted on in a browser as a person does, on a page that is a mere file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAIRS = 4
RED, BLUE = 0xFF0000, 0x0000FF
# Whether a picture is the first method's, which here draws red.
_IS_RED = """(image) => image.decode().then(() => {
    const canvas = document.createElement('canvas'), context = canvas.getContext('2d');
    canvas.width = canvas.height = 1;
    context.drawImage(image, 0, 0, 1, 1);
    const [red, , blue] = context.getImageData(0, 0, 1, 1).data;
    return red > blue;
})"""


def picture(color: int, count: int) -> dict[str, Any]:
    return {
        "class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": count, "color": color},
        "_meta": {"title": ""},
    }  # fmt: skip


@pytest.fixture(scope="module")
def page_file(server) -> Path:
    given = {"vote_name": "cats", "first_name": "Method A", "second_name": "Method B", "super_category": "cat"}
    workflow = {
        "1": picture(RED, PAIRS), "2": picture(BLUE, PAIRS), "3": picture(0x888888, 4),
        "4": {
            "class_type": "CoReBlindVote",
            "inputs": {
                **{"first": ["1", 0], "second": ["2", 0], "references": ["3", 0]},
                **{"prompts": "a photo of a {}, asleep", **given, "most_pairs": 0, "seed": 5},
                **{"overwrite": True, "picture_side": 512},
            },
            "_meta": {"title": ""},
        },
    }  # fmt: skip
    server.client.submit(workflow)
    return server.process.output / "votes" / "cats.html"


@pytest.fixture
def opened(chromium, page_file) -> Iterator[Callable[..., Any]]:
    """Opens the page in a browser of a language; whatever it asks of the network fails the test."""
    contexts, asked = [], []

    def open_page(locale: str = "en-US") -> Any:
        context = chromium.new_context(locale=locale, accept_downloads=True, viewport={"width": 1100, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def answer(page: Any) -> None:
    """Red looks more like the concept, and blue follows the prompt."""
    left_is_red = page.locator("#left").evaluate(_IS_RED)
    like, fits = ("Left", "Right") if left_is_red else ("Right", "Left")
    for question, side in (("real one", like), ("the text", fits)):
        page.get_by_role("group", name=re.compile(question)).get_by_role("button", name=side, exact=True).click()


def saved(page: Any, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save my votes").click()
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


def test_from_the_node_to_the_results(server, opened, tmp_path_factory, tmp_path):
    page = opened()
    assert "Method" not in page.content()
    assert page.get_by_text("a photo of a cat, asleep").is_visible()
    assert page.get_by_role("button", name="Next").is_disabled()
    for _ in range(2):
        answer(page)
        page.get_by_role("button", name="Next").click()
    folder = tmp_path_factory.getbasetemp() / "screenshots"
    page.screenshot(path=folder / "blind_vote.png") if folder.is_dir() else None
    page.reload()  # And another day goes on where it stopped.
    assert page.locator("#place").inner_text() == f"3 / {PAIRS}"
    partial = saved(page, tmp_path).read_text(encoding="utf-8")
    assert len(partial.splitlines()) == 1 + 2 * 2
    for _ in range(2):
        answer(page)
        page.get_by_role("button", name="Next").click()
    assert page.get_by_text("Thank you!").is_visible()
    file = saved(page, server.process.base.input)
    assert re.fullmatch(r"votes-[0-9a-f]{8}-[0-9a-f]{8}\.csv", file.name)
    counted = {
        "1": {"class_type": "CoReVoteResults", "inputs": {"vote": "cats"}, "_meta": {"title": ""}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": ""}},
    }
    execution = server.client.submit(counted)
    (table,) = execution.outputs["2"]["text"]
    assert re.search(rf"shows the concept better \| 100\.0% .*\| {PAIRS} \|", table)
    assert re.search(rf"follows the prompt better \| 0\.0% .*\| {PAIRS} \|", table)
    assert execution.outputs["1"]["text"][0].startswith("Shows the concept better: Method A 100%")
    assert len(execution.outputs["1"]["images"]) == 1
    file.unlink()


def test_it_is_answered_by_keys_and_can_be_gone_back_in(opened):
    page = opened()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    pressed = page.locator("[aria-pressed=true]")
    assert pressed.all_inner_texts() == ["Left", "Right"]
    page.get_by_role("button", name="Next").click()
    assert pressed.count() == 0
    page.get_by_role("button", name="Back").click()
    assert pressed.all_inner_texts() == ["Left", "Right"]


def test_it_speaks_chinese_to_a_chinese_browser(opened):
    page = opened("zh-CN")
    assert page.title() == "盲评投票"
    assert page.get_by_role("group", name="哪张图像更符合文字？").get_by_role("button", name="左").is_visible()
    assert page.get_by_role("button", name="保存我的投票").is_visible()


def test_everything_fits_a_small_screen(opened):
    page = opened()
    for width, height in ((1366, 768), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        for side in ("left", "right"):
            assert page.locator(f"#{side}").bounding_box()["width"] > 120
        bottom = page.get_by_role("button", name="Next").bounding_box()
        assert bottom["y"] + bottom["height"] <= height
