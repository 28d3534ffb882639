"""The methods that are compared, as data: what is set in the two training nodes and in Test-Time Optimize.

Steps, batch sizes and seeds are the protocol's and the same for all; what is named here is all that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Settings = Mapping[str, Any]

CEILING, FAST = "The thing itself", "CoRe fast"
NONE = "CoRe, λ 0"
OTHERS_ALONE: Mapping[str, Settings] = {
    "AttnDreamBooth": {"method": "AttnDreamBooth stage 1", "augmentation": 8},
    FAST: {"method": FAST, "weighting": "balanced"},
    "CoRe + DTI": {"method": "CoRe + DTI", "weighting": "balanced", "learning_rate": 0.04},
    "Directional Textual Inversion": {"method": "Directional Textual Inversion", "learning_rate": 0.04},
    "Cross Initialization": {"method": "Cross Initialization"},
    "Cross Initialization, rate 0.05": {"method": "Cross Initialization", "learning_rate": 0.05},
    "TI + ViCo's regularizer": {"method": "TI + ViCo's regularizer"},
    "XTI (P+)": {"method": "XTI (P+)"},
    "NeTI": {"method": "NeTI", "learning_rate": 8e-3},
}
"""Words alone, at their published rates; Cross Initialization also at one that was found on patchwork-dog."""
CORE, ATTN, TI = "CoRe", "AttnDreamBooth stage 1", "Textual Inversion"
BALANCED: Settings = {"weighting": "balanced"}
"""With the shares that are the node's defaults, for an embedding that stays alone."""
BEFORE: Settings = {**BALANCED, "embedding_share": 0.3, "attention_share": 0.3}
"""Stronger where the U-Net follows, as the templates have it: docs/quality.md."""


@dataclass(frozen=True)
class Finetune:
    """A run of U-Net Identity Finetune. share: of the protocol's steps. rate: times the protocol's learning rate.
    preset: the node's, whose values stand in their place where a protocol takes what is published."""

    settings: Settings = field(default_factory=dict)
    share: float = 1.0
    rate: float = 1.0
    class_images: bool = False
    preset: str = "CoRe stage 2"


@dataclass(frozen=True)
class Method:
    """embedding: of CoRe Train Embedding; empty where nothing is trained, and the thing itself is drawn. rare_word: it
    takes no step, the concept is this word. sid_captions: SID's."""

    name: str
    embedding: Settings
    finetunes: tuple[Finetune, ...] = ()
    test_time: Settings | None = None
    rare_word: str = ""
    sid_captions: bool = False


WHOLE = (Finetune(),)
WITH_WORD = (Finetune({"train_embedding": True}, preset="TI + DreamBooth"),)
ALIGNED = {"alignment_mean": 2.0, "alignment_variance": 5.0}
PRIOR = Finetune(class_images=True, preset="DreamBooth")
PRIOR_WITH_TEXT = replace(PRIOR, settings={"train_text_encoder": True}, preset="DreamBooth with text encoder")
KEYS_VALUES = Finetune(
    {"scope": "keys and values of cross-attention", "train_embedding": True},
    rate=10.0,
    class_images=True,
    preset="Custom Diffusion",
)


def _core(name: str, finetunes: tuple[Finetune, ...] = WHOLE, **settings: Any) -> Method:
    return Method(name, {"method": CORE, **(BEFORE if finetunes else BALANCED), **settings}, finetunes)


def _attn(name: str, augmentation: int) -> Method:
    second = Finetune(
        {**ALIGNED, "scope": "cross-attention layers", "augmentation": augmentation},
        share=1 / 6,
        rate=2.5,
        preset="AttnDreamBooth stage 2",
    )
    third = Finetune({**ALIGNED, "augmentation": augmentation}, share=5 / 6, preset="AttnDreamBooth stage 3")
    return Method(name, {"method": ATTN, "augmentation": augmentation}, (second, third))


_TI_DREAMBOOTH = Method("TI + DreamBooth", {"method": TI}, WITH_WORD)
_DREAMBOOTH = Method("DreamBooth", {"method": ATTN}, (PRIOR,), rare_word="sks")
_FAST = _core(FAST, method=FAST)
ALONE, LORA = ", stage 1", ", LoRA"
"""End the name of a method that trains the word alone, and of one that trains a LoRA after it."""
STRENGTHS = {
    NONE: {"embedding_weight": 0.0, "attention_weight": 0.0},
    "CoRe, published λ": {},
    **{f"CoRe, shares {share}": {"weighting": "balanced", "embedding_share": share, "attention_share": share}
       for share in (0.05, 0.1, 0.15, 0.2, 0.3)},
}  # fmt: skip
"""Of the regularizers, from none upwards."""
TURNED = {"adjustment": "TEA", "steps": 0}
PRESERVING = Finetune({**KEYS_VALUES.settings, "semantic_weight": 1.0}, rate=10.0, preset="ClassDiffusion")
LOOKS: Mapping[str, Finetune] = {
    "LoRA": Finetune({"form": "LoRA"}, rate=5.0, preset="DreamBooth LoRA"),
    "LoRA and text encoder": Finetune({"form": "LoRA", "train_text_encoder": True}, rate=5.0, preset="DreamBooth LoRA"),
    "DoRA": Finetune({"form": "DoRA"}, rate=5.0, preset="DreamBooth LoRA"),
    "T-LoRA": Finetune({"form": "T-LoRA", "rank": 64, "least_rank": 0.5}, rate=5.0, preset="T-LoRA"),
    "OFT": Finetune({"form": "OFT", "learning_rate": 6e-5}, preset="OFT"),
    "SVDiff": Finetune({"form": "singular values", "learning_rate": 1e-3}, preset="SVDiff"),
}
"""Forms of the U-Net's finetune, after the same word."""
LORA_WITH_WORD = replace(LOOKS["LoRA"], settings={**LOOKS["LoRA"].settings, **WITH_WORD[0].settings})
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(
            Method(f"{name}{stage}", {"method": CORE, **settings}, finetunes)
            for stage, finetunes in ((ALONE, ()), ("", WHOLE), (LORA, (LOOKS["LoRA"],)))
            for name, settings in STRENGTHS.items()
        ),
        Method(CEILING, {}),
        Method("Textual Inversion", {"method": TI}),
        Method("TI + frozen word", {"method": TI}, WHOLE),
        _TI_DREAMBOOTH,
        _DREAMBOOTH,
        replace(_DREAMBOOTH, name="DreamBooth with text encoder", finetunes=(PRIOR_WITH_TEXT,)),
        Method("Custom Diffusion", {"method": ATTN}, (KEYS_VALUES,), rare_word="ktn"),
        _attn("AttnDreamBooth", augmentation=8),
        _attn("AttnDreamBooth, no augmentation", augmentation=0),
        _core("CoRe"),
        _FAST,
        replace(_FAST, name=f"{FAST}, embedding alone", finetunes=()),
        replace(_FAST, name=f"{FAST}, test time", test_time={}),
        replace(_FAST, name=f"{FAST}{LORA}", finetunes=(LOOKS["LoRA"],)),
        replace(_TI_DREAMBOOTH, name=f"{_TI_DREAMBOOTH.name}{LORA}", finetunes=(LORA_WITH_WORD,)),
        _core("CoRe without L_emb", embedding_share=0.0, embedding_weight=0.0),
        _core("CoRe without L_attn", attention_share=0.0, attention_weight=0.0),
        _core("CoRe without rescaling", rescale_to=0.0),
        _core("CoRe without the prompt set", prompt_set="own", own_prompts="a photo of a {}"),
        replace(_TI_DREAMBOOTH, name=f"{_TI_DREAMBOOTH.name}, SID captions", sid_captions=True),
        replace(_FAST, name=f"{FAST}, SID captions", sid_captions=True),
        _core("CoRe, stage 1", ()),
        *(Method(f"{name}{ALONE}", settings) for name, settings in OTHERS_ALONE.items()),
        replace(_core(f"CoRe + TEA{ALONE}", ()), test_time=TURNED),
        *(Method(f"CoRe, {name}", {"method": CORE, **BALANCED}, (finetune,)) for name, finetune in LOOKS.items()),
        Method("ClassDiffusion", {"method": ATTN}, (PRESERVING,), rare_word="ktn"),
    )
}
SEARCHED: Mapping[str, Method] = {
    f"{name}, rate {rate}": replace(
        METHODS[name],
        name=f"{name}, rate {rate}",
        finetunes=tuple(replace(stage, rate=stage.rate * rate) for stage in METHODS[name].finetunes),
    )
    for name in (
        "TI + DreamBooth",
        FAST,
        "AttnDreamBooth",
        "AttnDreamBooth, no augmentation",
        "DreamBooth",
        "Custom Diffusion",
    )
    for rate in (0.25, 0.5, 1.0)
}
"""The same search for each method: how fast its U-Net learns, as parts of the protocol's rate. AttnDreamBooth also
without its turned and cropped pictures, from which the mini world learns a pattern and no shape."""
ALL = {**METHODS, **SEARCHED}
