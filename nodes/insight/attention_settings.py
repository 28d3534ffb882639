"""What can be set on "Context Attention Probe" and "Attention Maps"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..settings import choice, integer, like, number, switch, text

OCCURRENCE = re.compile(r" \(\d+\)$")
"""What a word is called beyond itself that stands in a prompt again."""
ALL_LAYERS, LISTED_LAYERS = "all", "listed"
RESOLUTIONS = ("1/1", "1/2", "1/4", "1/8")
"""Side of a layer's attention as part of the latent's side, finest first: position = number of halvings."""
CONDITIONAL, UNCONDITIONAL = "conditional", "unconditional"
EACH_HEAD = "each"
THRESHOLD = "threshold"
ALL_WORDS = "all words"
LAST_STEP = 10_000


@dataclass(frozen=True)
class ProbeSettings:
    """Inputs of "Context Attention Probe", in the order in which they are shown."""

    words: str = text(
        "", help="Words or phrases to watch, separated by commas. Empty: every word, start of text and padding."
    )
    part: str = choice(
        (CONDITIONAL, UNCONDITIONAL),
        help="Part of the sampler's batch to watch. unconditional: write the negative prompt in prompt.",
    )
    layers: str = choice(
        (ALL_LAYERS, *RESOLUTIONS, LISTED_LAYERS),
        help=(
            "Cross-attention layers to watch: all (as in the paper), those whose side is this part of the latent's "
            "side (1/2 is 32 for 512 pixels), or those of layer_list."
        ),
        shows={LISTED_LAYERS: ["layer_list"]},
    )
    layer_list: str = text(
        "",
        help="For layers = listed: names as block.number.index, separated by commas, such as middle.0.0, output.5.0.",
    )
    first_step: int = integer(1, low=1, high=LAST_STEP, help="First sampling step to watch, counted from 1.")
    last_step: int = integer(
        LAST_STEP, low=1, high=LAST_STEP, help="Last sampling step to watch; later than the last: all."
    )
    heads: str = choice(
        ("mean", EACH_HEAD),
        help=(
            "mean over attention heads, as in the paper, or each head by itself, which takes as many times the memory."
        ),
        advanced=True,
    )
    each_step: bool = switch(
        True,
        help="Keep the maps of each step, for the frames of Attention Maps. Off: only their mean, with less memory.",
        advanced=True,
    )
    memory_limit: int = integer(
        1024,
        low=1,
        high=1_000_000,
        help="Refuse to sample when the maps would take more MiB of main memory than this.",
        advanced=True,
    )
    prompt: str = text(
        "a photo of a dog",
        help=(
            "The prompt that the sampler's conditioning was encoded from, as in CLIP Text Encode: weights and "
            "embedding:NAME count."
        ),
        multiline=True,
    )

    def __post_init__(self) -> None:
        if self.first_step > self.last_step:
            raise ValueError(
                f"first_step: {self.first_step} comes after last_step {self.last_step}; lower it or raise last_step."
            )
        if self.layers == LISTED_LAYERS and not self.layer_list.strip():
            raise ValueError("layer_list: it is empty; name layers such as middle.0.0, or set layers to all.")


@dataclass(frozen=True)
class MapSettings:
    """Inputs of "Attention Maps", in the order in which they are shown."""

    words: str = text(
        "",
        help=(
            "Watched words to show and to make masks of, separated by commas, as the table names them. Empty: all "
            "words of the prompt."
        ),
    )
    mask: str = choice(
        ("soft", THRESHOLD),
        help="soft: each map divided by its maximum. threshold: white where that is at least the threshold.",
        shows={THRESHOLD: ["threshold"]},
    )
    threshold: float = number(
        0.5, low=0.0, high=1.0, step=0.05, help="Part of a map's maximum from which on a mask is white."
    )
    scale: str = choice(
        ("each word", ALL_WORDS),
        help="Full colour is the maximum of each word's own map, or of all shown words together, for comparison.",
    )
    color_map: str = choice(
        ("inferno", "viridis", "magma", "plasma", "turbo", "gray"),
        help="matplotlib's colour map of the overlays.",
        advanced=True,
    )
    opacity: float = number(
        0.6, low=0.0, high=1.0, step=0.05, help="How much the colours cover the picture; 1 hides it.", advanced=True
    )
    columns: int = integer(6, low=1, high=32, help="Pictures in one line of the grid.", advanced=True)


@dataclass(frozen=True)
class SheetSettings:
    """Inputs of "Attention Sheet", in the order in which they are shown."""

    row_name: str = text("", help="At the row's left: dog, Textual Inversion, CoRe. Empty: the prompt.")
    words: str = text(
        "",
        help="Words to show, of any row, separated by commas. Empty: all words of the prompts. The last of "
        "several sheets decides.",
    )
    picture: int = integer(1, low=1, high=4096, help="Which picture of the batch, 1 being the first.")
    scale: str = choice(
        ("each word", ALL_WORDS),
        help="Full colour is the maximum of each word over all rows, so that a column can be compared, or of the whole "
        "sheet.",
    )
    color_map: str = like(MapSettings, "color_map")
