"""A setting that does nothing with what the others are, such as one that the editor hides, decides nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from families import embedding, finetuning
from families.stopping import cancel_after

KEYS_VALUES = "keys and values of cross-attention"
FINETUNE = {"scope": KEYS_VALUES, "batch_size": 1, "overwrite": False}
EMBEDDING = {"batch_size": 1, "steps": 2, "overwrite": False}
FULL, LORA = {"form": "full weights"}, {"form": "LoRA"}
ALONG = {"train_embedding": True, "train_text_encoder": True}
CLASS_IMAGES = {"class_images": finetuning.pictures(1)}


def finetune(models: Any, name: str, **given: Any) -> Any:
    return finetuning.execute(models, name=name, **{**FINETUNE, **given})


def train(models: Any, name: str, **given: Any) -> Any:
    return embedding.execute(models, concept_name=name, **{**EMBEDDING, **given})


def stopped(run: Any, models: Any, name: str, **given: Any) -> None:
    from core_personalization.nodes.host.run_control import Cancelled

    with pytest.MonkeyPatch.context() as patch:
        cancel_after(patch, 1)
        with pytest.raises(Cancelled):
            run(models, name, **given)


UNREAD: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (finetune, LORA, {"least_rank": 0.25, "rank_power": 2.0, "embedding_rate": 1e-3, "text_encoder_rate": 1e-3}),
    (finetune, LORA, {"class_caption": "a cat", "prior_weight": 2.0, "semantic_weight": 1.0, "use_masks": False}),
    (finetune, {"form": "T-LoRA"}, {"alpha": 2.0, "dropout": 0.5}),
    (finetune, FULL, {"rank": 8, "alpha": 2.0, "dropout": 0.5, "least_rank": 0.25}),
    (finetune, {"form": "singular values"}, {"rank": 8}),
    (train, {"method": "CoRe"}, {"own_prompts": "a {} of mine", "embedding_share": 0.3, "attention_share": 0.3}),
    (train, {"method": "Textual Inversion"}, {"own_prompts": "a {} of mine", "prompt_set": "own"}),
]


@pytest.mark.parametrize("case", range(len(UNREAD)))
def test_what_is_not_read_keeps_a_training_neither_from_going_on_nor_from_being_loaded(sd1, steps, case):
    run, given, unread = UNREAD[case]
    stopped(run, sd1, f"unread-{case}", **given)
    run(sd1, f"unread-{case}", **given, **unread)
    run(sd1, f"unread-{case}", **given)
    assert steps == [1, 2]


READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (LORA, {"rank": 8}),
    (LORA, {"alpha": 2.0}),
    ({"form": "DoRA"}, {"dropout": 0.5}),
    ({"form": "T-LoRA"}, {"least_rank": 0.25}),
    ({"form": "T-LoRA"}, {"rank_power": 2.0}),
    ({"form": "LoHa"}, {"alpha": 2.0}),
    ({"form": "OFT"}, {"rank": 8}),
    ({**FULL, "save": "LoRA"}, {"rank": 8}),
    ({**FULL, **ALONG}, {"rank": 8}),
    ({**LORA, **ALONG}, {"embedding_rate": 1e-3}),
    ({**LORA, **ALONG}, {"text_encoder_rate": 1e-3}),
    ({**LORA, **ALONG}, {"semantic_weight": 1.0}),
    ({**LORA, **CLASS_IMAGES}, {"prior_weight": 2.0}),
    ({**LORA, **CLASS_IMAGES}, {"class_caption": "a cat"}),
    ({**LORA, "masks": [torch.ones(1, 64, 64).tril()] * 2}, {"use_masks": False}),
]


@pytest.mark.parametrize(("given", "read"), READ)
def test_what_a_finetune_reads_makes_it_another(sd1, given, read):
    def made_of(**more: Any) -> Any:
        return finetuning.checked_finetune(sd1, name="never", **{**FINETUNE, **given, **more}).made_of

    (difference,) = made_of().differences(made_of(**read), set())
    assert difference.startswith(next(iter(read)))


def test_what_is_read_of_one_concept_alone_is_read(sd1):
    """Of Also Train's class images prior_weight is a weight, and class_caption no caption."""
    from core_personalization.nodes.concept import Concept

    other = Concept("other", "cat", {"clip_l": torch.zeros(1, 768)}, finetuning.a_concept(sd1).path)
    also = [(other, finetuning.also_trained(other, **CLASS_IMAGES)[0][1])]

    def made_of(**more: Any) -> Any:
        return finetuning.checked_finetune(sd1, name="never", also=also, **{**FINETUNE, **LORA, **more}).made_of

    changed = made_of(prior_weight=2.0, class_caption="a cat")
    assert made_of().differences(changed, set()) == ["prior_weight 1.0 (now 2.0)"]


def test_what_comes_to_be_read_is_compared_with_what_it_was(sd1, steps):
    """Of full weights saved whole nothing has a rank; a LoRA extracted from them has."""
    given = {**FULL, "rank": 8}
    stopped(finetune, sd1, "read-later", **given)
    finetune(sd1, "read-later", save="LoRA", **given)
    assert steps == [1, 2]
