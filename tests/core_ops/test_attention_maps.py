"""Words of a prompt, their maps on canvases of several resolutions, and what is read off them."""

from __future__ import annotations

import pytest
import torch
from core_personalization.core_ops import captured_attention
from core_personalization.core_ops.captured_attention import (
    CapturedAttention,
    MapCanvas,
    MapLevel,
    Region,
    canvas_bytes,
    relative_maps,
    resized_maps,
    word_attention,
    word_masks,
)
from core_personalization.core_ops.prompts.prompt_words import (
    END,
    START,
    PromptWord,
    PromptWords,
    WatchedWord,
    token_weights,
    watch_everything,
    watch_phrases,
)
from torch import Tensor

WHOLE = Region(0, 0, 8, 8, (8, 8))


def prompt(*words: tuple[str, ...]) -> PromptWords:
    """One row of 16: start, the words' tokens, end and padding. A word is its label and the keys of its tokens."""
    position, made = 1, []
    for label, *keys in words:
        made.append(PromptWord(label, tuple(keys or (label,)), tuple(range(position, position + len(keys or [0])))))
        position += len(keys or [0])
    return PromptWords(tuple(made), (0,), tuple(range(position, 16)), 1)


TEDDY = prompt(("a",), ("teddy", "ted", "dy"), ("bear",), ("and",), ("a",), ("bear",), (",",))


def phrase(*words: tuple[str, ...]) -> tuple[PromptWord, ...]:
    return prompt(*words).words


def labels(words: tuple[WatchedWord, ...]) -> dict[str, tuple[int, ...]]:
    return {word.label: word.positions for word in words}


def test_watching_everything_covers_every_token_once():
    watched = watch_everything(TEDDY)
    assert sorted(position for word in watched for position in word.positions) == list(range(TEDDY.length))
    assert [word.label for word in watched] == [START, "a", "teddy", "bear", "and", "a (2)", "bear (2)", ",", END]
    assert [word.label for word in watched if not word.in_prompt] == [START, END]


def test_a_phrase_is_found_wherever_it_stands_with_all_tokens():
    watched = watch_phrases(TEDDY, {"bear": phrase(("bear",)), "teddy": phrase(("Teddy", "ted", "dy"))})
    assert labels(watched) == {"bear": (4,), "bear (2)": (7,), "teddy": (2, 3)}
    together = watch_phrases(TEDDY, {"teddy bear": phrase(("teddy", "ted", "dy"), ("bear",))})
    assert labels(together) == {"teddy bear": (2, 3, 4)}


def test_the_end_of_a_longer_word_is_not_that_word():
    with pytest.raises(ValueError, match=r"'dy' is not in the prompt\. The words that are: a, teddy, bear, and, ,"):
        watch_phrases(TEDDY, {"dy": phrase(("dy",))})


def test_words_of_the_prompt_are_named_without_control_letters():
    with pytest.raises(ValueError, match=r"The words that are: a, \\x00, 狗\."):
        watch_phrases(prompt(("a",), ("\0",), ("狗",)), {"dog": phrase(("dog",))})


def test_occurrences_do_not_overlap():
    assert labels(watch_phrases(prompt(("x",), ("x",), ("x",)), {"x x": phrase(("x",), ("x",))})) == {"x x": (1, 2)}


def test_a_token_belongs_to_one_word():
    with pytest.raises(ValueError, match="'teddy bear' and 'bear' share a token"):
        watch_phrases(TEDDY, {"teddy bear": phrase(("teddy", "ted", "dy"), ("bear",)), "bear": phrase(("bear",))})


def test_an_embedding_is_found_by_its_bare_name():
    text = prompt(("a",), ("embedding:my-cat", "v0", "v1"))
    assert labels(watch_phrases(text, {"my-cat": phrase(("my",), ("-",), ("cat",))})) == {"my-cat": (2, 3)}


def test_token_weights_follow_a_repeated_or_later_context():
    weights = token_weights([WatchedWord("dog", (2, 3))], 12, 6)
    assert weights[:, 0].nonzero().flatten().tolist() == [2, 3, 8, 9]
    assert token_weights([WatchedWord("dog", (2,))], 8, 8, 4)[:, 0].nonzero().flatten().tolist() == [6]


def loop_attention(q: Tensor, k: Tensor, heads: int, positions: list[int]) -> Tensor:
    """[B, H, P], one probability at a time."""
    batch, pixels, width = q.shape
    d = width // heads
    result = torch.zeros(batch, heads, pixels, dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for p in range(pixels):
                part = slice(h * d, (h + 1) * d)
                logits = [float(q[b, p, part].double() @ key[part].double()) / d**0.5 for key in k[b]]
                exponentials = torch.tensor(logits, dtype=torch.float64).exp()
                result[b, h, p] = exponentials[positions].sum() / exponentials.sum()
    return result


@pytest.fixture
def qk() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 8, generator=generator), torch.randn(2, 5, 8, generator=generator)


def test_word_attention_is_softmax_summed_over_a_words_tokens(qk, monkeypatch):
    q, k = qk
    words = [WatchedWord("a", (1,)), WatchedWord("b", (2, 4))]
    weights = token_weights(words, 5, 5)
    each = word_attention(q, k, 2, weights, each_head=True)
    expected = torch.stack([loop_attention(q, k, 2, list(word.positions)) for word in words], dim=1)
    assert torch.allclose(each.double(), expected, atol=1e-6)
    assert torch.allclose(word_attention(q, k, 2, weights), each.mean(dim=2, keepdim=True), atol=1e-7)
    monkeypatch.setattr(captured_attention, "PROBABILITIES_AT_ONCE", 2 * 2 * 5 * 4)  # Parts of four pixels and of two.
    assert torch.allclose(word_attention(q, k, 2, weights, each_head=True), each, atol=1e-7)


def test_half_precision_does_not_blur_the_probabilities(qk):
    q, k = (10 * x.bfloat16() for x in qk)
    weights = token_weights([WatchedWord("b", (2, 4))], 5, 5)
    expected = loop_attention(q.float(), k.float(), 2, [2, 4])
    assert (word_attention(q, k, 2, weights, each_head=True)[:, 0] - expected).abs().max() < 1e-5


def test_a_repeated_context_gives_the_same_attention(qk):
    q, k = qk
    words = [WatchedWord("b", (2, 4))]
    alone = word_attention(q, k, 2, token_weights(words, 5, 5))
    repeated = word_attention(q, k.repeat(1, 3, 1), 2, token_weights(words, 15, 5))
    assert torch.allclose(alone, repeated, atol=1e-6)


def random_maps(*size: int, words: int = 3, images: int = 2, heads: int = 1, seed: int = 0) -> Tensor:
    """Of words that are all there are: they sum to 1 at each pixel and head."""
    maps = torch.rand(images, words, heads, *size, generator=torch.Generator().manual_seed(seed))
    return maps / maps.sum(dim=1, keepdim=True)


def captured(*canvases: tuple[MapCanvas, int]) -> CapturedAttention:
    levels = tuple(MapLevel(canvas.sums, canvas.weights, layers) for canvas, layers in canvases)
    words = tuple(WatchedWord(str(i), (i,)) for i in range(levels[0].sums.shape[2]))
    return CapturedAttention("", words, levels, tuple(range(1, levels[0].sums.shape[0] + 1)))


def canvas_of(size: tuple[int, int], *steps: list[Tensor], region: Region = WHOLE) -> MapCanvas:
    images, words, heads = steps[0][0].shape[:3]
    canvas = MapCanvas(len(steps), images, words, heads, size)
    for step, maps in enumerate(steps):
        for layer in maps:
            canvas.add(step, layer, region)
    return canvas


def test_every_layer_counts_the_same_and_shares_sum_to_one():
    fine = [random_maps(8, 8, seed=i) for i in range(2)]
    coarse = [random_maps(4, 4, seed=7)]
    both = captured((canvas_of((8, 8), fine), 2), (canvas_of((4, 4), coarse), 1))
    expected = torch.stack([maps.mean(dim=(2, 3, 4)) for maps in fine + coarse]).mean(dim=0)
    assert torch.allclose(both.shares(), expected, atol=1e-6)
    assert torch.allclose(both.shares().sum(dim=1), torch.ones(2), atol=1e-6)
    merged = (fine[0] + fine[1] + resized_maps(coarse[0], (8, 8))) / 3
    assert torch.allclose(both.maps(), merged, atol=1e-6)


def test_steps_are_kept_apart_and_averaged():
    first, second = random_maps(8, 8, seed=1), random_maps(8, 8, seed=2)
    both = captured((canvas_of((8, 8), [first], [second]), 1))
    assert torch.allclose(both.maps(0), first, atol=1e-6)
    assert torch.allclose(both.maps(1), second, atol=1e-6)
    assert torch.allclose(both.maps(), (first + second) / 2, atol=1e-6)
    assert torch.allclose(both.shares(1), second.mean(dim=(2, 3, 4)), atol=1e-6)


def test_a_region_is_painted_where_it_lies_and_nothing_elsewhere():
    part = random_maps(4, 3)
    canvas = canvas_of((8, 8), [part], region=Region(4, 2, 4, 3, (8, 8)))
    result = captured((canvas, 1))
    assert torch.allclose(result.maps()[..., 4:8, 2:5], part, atol=1e-6)
    outside = result.maps().clone()
    outside[..., 4:8, 2:5] = 0
    assert outside.abs().max() == 0
    assert torch.allclose(result.shares(), part.mean(dim=(2, 3, 4)), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (8, 8)])
def test_a_region_has_pixels_on_every_canvas(size):
    for region in (Region(7, 7, 1, 1, (8, 8)), Region(0, 3, 8, 2, (8, 8)), WHOLE):
        rows, columns = region.on(size)
        assert 0 <= rows.start < rows.stop <= size[0]
        assert 0 <= columns.start < columns.stop <= size[1]


def test_a_mask_weighs_overlapping_entries():
    left, right = random_maps(8, 8, seed=1), random_maps(8, 8, seed=2)
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    canvas = MapCanvas(1, 2, 3, 1, (8, 8))
    canvas.add(0, left, WHOLE, mask)
    canvas.add(0, right, WHOLE, 1 - mask)
    expected = torch.cat([left[..., :4], right[..., 4:]], dim=-1)
    assert torch.allclose(captured((canvas, 1)).maps(), expected, atol=1e-6)


def test_memory_is_known_beforehand():
    canvas = MapCanvas(5, 2, 3, 4, (8, 6))
    taken = 4 * (canvas.sums.numel() + canvas.weights.numel())
    assert canvas_bytes([((8, 6), 4)], 5, 2, 3) == taken


def test_masks_have_the_images_size_and_reach_from_zero_to_one():
    maps = random_maps(4, 6, heads=2)
    soft = word_masks(maps, (32, 48))
    assert soft.shape == (3, 2, 32, 48)
    assert soft.min() >= 0
    assert torch.allclose(soft.amax(dim=(2, 3)), torch.ones(3, 2))
    hard = word_masks(maps, (32, 48), threshold=0.6)
    assert torch.equal(hard, (soft >= 0.6).float())
    assert 0 < hard.mean() < 1


def test_a_word_without_attention_gives_an_empty_mask():
    assert word_masks(torch.zeros(1, 1, 1, 4, 4), (8, 8), threshold=0.0).sum() == 0


def test_relative_maps_share_a_peak_or_have_their_own():
    maps = random_maps(4, 4)
    assert torch.allclose(relative_maps(maps).amax(dim=(3, 4)), torch.ones(2, 3, 1))
    common = relative_maps(maps, maps.amax())
    assert torch.allclose(common * maps.amax(), maps, atol=1e-6)
