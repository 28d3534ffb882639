"""The node "Context Similarity" on real ComfyUI text encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families.load import load_family
from torch import Tensor


@pytest.fixture(scope="module")
def sd1_clip(embeddings) -> Any:
    return load_family("sd1", embedding_directory=str(embeddings))[1]


@pytest.fixture(scope="module")
def sdxl_clip(embeddings) -> Any:
    return load_family("sdxl", embedding_directory=str(embeddings))[1]


def execute(clip, prompt: str = "a {} in the desert", words: str = "dog\ncat", concept=None):
    from core_personalization.nodes.insight.context_similarity import ContextSimilarity

    with torch.inference_mode():
        return ContextSimilarity.execute(clip, concept, prompt=prompt, words=words).args


def columns(table: str) -> tuple[list[str], dict[str, list[float]]]:
    """Labels of the tokens, and the figures below each word; the last row is the mean."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    header, _, *rows = lines
    return [row[0] for row in rows], {
        word: [float(row[column].strip("*")) for row in rows] for column, word in enumerate(header[1:], start=1)
    }


def core_output(clip, prompt: str) -> Tensor:
    """What core's CLIP Text Encode gives for an unweighted prompt, [77, D]."""
    with torch.inference_mode():
        return clip.encode_from_tokens(clip.tokenize(prompt))[0].clone()


def concept(clip, seed: int = 0, vectors: int = 2):
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.files import concept_files, safe_files
    from core_personalization.nodes.host.models.text_encoder import encoder_widths

    generator = torch.Generator().manual_seed(seed)
    own = {
        name: torch.randn(vectors, width, generator=generator) * 0.02 for name, width in encoder_widths(clip).items()
    }
    path = concept_files.embedding_path(f"compared-{len(own)}")
    safe_files.write(path, concept_files.embedding_tensors(own), {}, overwrite=True)
    return Concept(path.stem, "dog", own, path)


def test_figures_equal_those_of_cores_own_output_token_by_token(sd1_clip):
    """Words of one, two and three tokens, so that the same token stands at different places."""
    chart, table = execute(sd1_clip, "a photo of a {} in the Desert, at night", "Dog\nteddy bear\ngiant patchwork dog")
    labels, found = columns(table)
    assert labels == [
        *("(start of text)", "a", "photo", "of", "a", "in", "the", "desert", ",", "at", "night", "(end of text)"),
        "**mean**",
    ]
    base = core_output(sd1_clip, "a photo of a dog in the desert, at night")
    for word, length in {"teddy bear": 2, "giant patchwork dog": 3}.items():
        output = core_output(sd1_clip, f"a photo of a {word} in the desert, at night")
        places = [*range(5), *range(6, 13)]
        moved = [place if place < 5 else place + length - 1 for place in places]
        expected = torch.nn.functional.cosine_similarity(output[moved], base[places], dim=-1)
        assert found[word][:-1] == pytest.approx(expected.tolist(), abs=6e-5)
        assert found[word][-1] == pytest.approx(float(expected.mean()), abs=6e-5)
        assert found[word][:5] == [1.0] * 5  # what comes before cannot know
        assert max(found[word][5:-1]) < 0.9999
    assert chart.ndim == 4 and chart.shape[0] == 1 and chart.shape[-1] == 3
    assert 0 <= float(chart.min()) < 0.5 and float(chart.max()) <= 1


def test_with_two_encoders_it_is_the_mean_of_both(sdxl_clip):
    _, table = execute(sdxl_clip)
    with torch.inference_mode():
        outputs = [
            core_output(sdxl_clip, f"a {word} in the desert").split([768, 1280], dim=-1) for word in ("cat", "dog")
        ]
    places = [0, 1, 3, 4, 5, 6]
    per_encoder = [
        torch.nn.functional.cosine_similarity(a[places], b[places], dim=-1) for a, b in zip(*outputs, strict=True)
    ]
    assert columns(table)[1]["cat"][:-1] == pytest.approx(torch.stack(per_encoder).mean(0).tolist(), abs=6e-5)


@pytest.mark.parametrize("encoders", ["sd1", "sdxl"])
def test_a_concept_counts_as_its_file_does_in_a_prompt(encoders, sd1_clip, sdxl_clip):
    clip = {"sd1": sd1_clip, "sdxl": sdxl_clip}[encoders]
    given = concept(clip)
    _, connected = execute(clip, concept=given)
    _, named = execute(clip, words=f"dog\ncat\n{given.token}")
    assert connected == named
    assert list(columns(connected)[1]) == ["cat", given.token]


def test_the_concept_may_be_the_word_that_the_others_are_compared_with(sd1_clip):
    own = concept(sd1_clip)
    first, _ = columns(execute(sd1_clip, words=f"{own.token}\ndog", concept=own)[1])
    second, _ = columns(execute(sd1_clip, words=f"dog\n{own.token}", concept=own)[1])
    assert first == second


def test_prompt_weights_do_not_count(sd1_clip):
    _, plain = execute(sd1_clip, "a {} in the desert")
    _, weighted = execute(sd1_clip, "a ({}:1.3) in the (desert:0.5)")
    assert plain == weighted


def test_repeated_and_split_words_and_marks_have_a_row_each(sd1_clip):
    labels, _ = columns(execute(sd1_clip, "a dog beside a {} ; photorealism | really!")[1])
    assert labels[:6] == ["(start of text)", "a", "dog", "beside", "a", ";"]
    assert labels[6:8] == ["photorealism·1", "photorealism·2"]
    assert labels[8:] == ["&#124;", "really", "!", "(end of text)", "**mean**"]


REFUSED = [
    ({"prompt": "a dog"}, r"prompt: .* has {} 0 times"),
    ({"words": "dog"}, r"words: got 1"),
    ({"words": "\n".join(f"word{number}" for number in range(21))}, r"words: got 21"),
    ({"words": "dog\nembedding:nowhere"}, r"words: 'embedding:nowhere' .* does not exist"),
    ({"words": "dog\nembedding:core_place_0"}, r"words: .*core_place_0 does not exist"),
    ({"prompt": "a {}, it is", "words": "dog\ndog!"}, r"words: 'dog!'"),
    ({"prompt": "a {} " + "very " * 80, "words": "dog\ncat"}, r"2 rows of 77 tokens"),
    ({"words": "dog\n()"}, r"words: '\(\)' gives no token"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_and_says_what_to_do(sd1_clip, given, message):
    with pytest.raises(ValueError, match=message):
        execute(sd1_clip, **given)


def test_a_concept_of_another_base_model_is_refused(sd1_clip, sdxl_clip):
    with pytest.raises(ValueError, match=r"concept: .* load the base model that it was learned on"):
        execute(sd1_clip, concept=concept(sdxl_clip))


def test_nothing_of_the_text_encoder_changes(sd1_clip):
    before = bits(sd1_clip)
    execute(sd1_clip, concept=concept(sd1_clip))
    assert bits(sd1_clip) == before


def bits(clip) -> dict[str, bytes]:
    weights = clip.cond_stage_model.state_dict()
    return {
        name: tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        for name, tensor in weights.items()
    }


def test_a_category_that_begins_with_the_words_is_no_second_concept(sd1_clip):
    from core_personalization.nodes.sharing.concept_from_words import ConceptFromWords

    called, _ = ConceptFromWords.execute(sd1_clip, "cat", "catfish", with_category=True).args
    _, table = execute(sd1_clip, words="catfish", concept=called)
    labels, found = columns(table)
    assert labels and set(found) == {"cat"}
