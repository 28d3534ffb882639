"""What the attention probe is told to watch, and what it refuses before anything is sampled."""

from __future__ import annotations

import pytest
import torch
from families.probing import Loaded, Sampling, load, probed, record_calls, sample
from torch import Tensor


@pytest.fixture(scope="module")
def sd1() -> Loaded:
    return load("sd1")


def test_steps_and_resolutions_can_be_chosen(sd1):
    with_probe, probe = probed(sd1, first_step=2, last_step=3, layers="1/2")
    captured = probe.captured(sample(sd1, with_probe, Sampling(steps=4)))
    assert captured.steps == (2, 3)
    assert [tuple(level.sums.shape[-2:]) for level in captured.levels] == [(4, 6)]
    means_model, means = probed(sd1, first_step=2, last_step=3, layers="1/2", each_step=False)
    averaged = means.captured(sample(sd1, means_model, Sampling(steps=4)))
    assert averaged.levels[0].sums.shape[0] == 1
    assert torch.allclose(averaged.maps(), captured.maps(), atol=1e-6)
    with pytest.raises(ValueError, match="first_step: 2, but this sampling has 1 steps"):
        sample(sd1, with_probe, Sampling(steps=1))


def test_memory_is_refused_beforehand(sd1):
    with_probe, probe = probed(sd1, memory_limit=1)
    calls = record_calls(with_probe)
    with pytest.raises(ValueError, match=r"memory_limit: the probe's maps would take .* Switch each_step off"):
        sample(sd1, with_probe, Sampling(height=64, width=64, steps=20))
    assert not calls
    captured = probe.captured(sample(sd1, with_probe, Sampling()))
    taken = sum(4 * (level.sums.numel() + level.weights.numel()) for level in captured.levels)
    assert probe.plan.bytes_needed((8, 12), 2, 1) == taken


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"layers": "1/4"}, "layers: this model has no cross-attention at 1/4; choose 1/1, 1/2"),
        ({"layers": "listed", "layer_list": "middle.0.0, output.9.0"}, r"layer_list: output\.9\.0 is not in this"),
        ({"layers": "listed"}, "layer_list: it is empty"),
        ({"first_step": 3, "last_step": 2}, "first_step: 3 comes after last_step 2"),
        ({"words": "dog, Jungle"}, "words: 'Jungle' is not in the prompt. The words that are: a, photo, of, patchwork"),
        ({"words": "embedding:nowhere"}, "words: embedding:nowhere does not exist"),
        ({"prompt": "a embedding:nowhere"}, "prompt: embedding:nowhere does not exist"),
        ({"part": "both"}, "part: 'both' is not one of"),
    ],
)
def test_bad_inputs_are_refused_by_name(sd1, inputs, message):
    with pytest.raises(ValueError, match=message):
        probed(sd1, **inputs)


def test_a_model_or_clip_of_another_kind_is_refused(sd1):
    other = load("sd2")
    with pytest.raises(ValueError, match="clip: its text is 1024 wide"):
        probed(Loaded("mixed", sd1.model, other.clip))


@pytest.mark.every_comfyui
def test_words_are_found_as_the_tokenizer_splits_them(sd1, comfyui):
    from core_personalization.core_ops.prompts.prompt_words import watch_phrases
    from core_personalization.nodes.host.prompts.prompt_reading import read_phrases, read_prompt
    from safetensors.torch import save_file

    (comfyui / "models" / "embeddings").mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.randn(3, 768)}, comfyui / "models" / "embeddings" / "my-cat.safetensors")
    clip = sd1.clip
    for name in ("clip_l",):
        getattr(clip.tokenizer, name).embedding_directory = [str(comfyui / "models" / "embeddings")]
    text = "A (Supercalifragilistic:1.3) DOG's embedding:my-cat, dogs and 24 dogs!"
    prompt = read_prompt(clip, text)
    assert prompt.length == 77
    by_label = {word.label: word for word in prompt.words}
    assert len(by_label["supercalifragilistic"].positions) > 1
    assert len(by_label["embedding:my-cat"].positions) == 3
    phrases = read_phrases(clip, "SUPERCALIFRAGILISTIC, dogs, dog's, my-cat, 24, dogs!\n")
    ids = clip.tokenize(text)["l"][0]
    assert [isinstance(ids[p][0], Tensor) for p in by_label["embedding:my-cat"].positions] == [True] * 3
    watched = watch_phrases(prompt, {key: words for key, words in phrases.items() if key != "dogs!"})
    assert [word.label for word in watched] == ["SUPERCALIFRAGILISTIC", "dogs", "dogs (2)", "dog's", "my-cat", "24"]
    with pytest.raises(ValueError, match="share a token"):
        watch_phrases(prompt, phrases)
