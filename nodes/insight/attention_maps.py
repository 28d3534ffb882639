"""Node "Attention Maps": what a probe saw, as pictures, masks and a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from einops import rearrange
from torch import Tensor

from ...core_ops.captured_attention import CapturedAttention, word_masks
from ...core_ops.pictures import rgb, single_pictures
from ...core_ops.prompts.prompt_words import listed
from ...core_ops.quoting import quoted, shortened
from ..host.attention.sampling_probe import AttentionProbe
from ..settings import schema_inputs, validated
from ..tables import markdown_table
from .attention_pages import Panel, draw_frames, draw_pages
from .attention_probe import ProbeIO
from .attention_settings import OCCURRENCE, THRESHOLD, MapSettings

SMALLEST_REST = 5e-5
"""What four decimals would show as 0."""


class AttentionMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CoReAttentionMaps",
            display_name="Attention Maps",
            category="CoRe Personalization",
            description="Shows where the picture attends to each word: overlays, masks, a table, and the steps.",
            search_aliases=["cross-attention", "attention heat map", "daam", "mask from word", "token shares"],
            is_output_node=True,
            inputs=[
                ProbeIO.Input("probe", tooltip="From Context Attention Probe."),
                io.Latent.Input("latent", tooltip="What the probed sampler made, so that this node waits for it."),
                io.Image.Input("images", tooltip="The probed latents, decoded: one picture for each."),
                ProbeIO.Input(
                    "second_probe",
                    optional=True,
                    tooltip="Another probe, whose maps are shown under the first's. Optional.",
                ),
                io.Latent.Input("second_latent", optional=True, tooltip="What the second probed sampler made."),
                io.Image.Input("second_images", optional=True, tooltip="The latents of second_latent, decoded."),
                *schema_inputs(MapSettings),
            ],
            outputs=[
                io.Image.Output("overlays", display_name="overlays", tooltip="A page of maps for each picture."),
                io.Mask.Output(
                    "masks",
                    display_name="masks",
                    tooltip="A mask for each picture and word: all pictures' of the first word first.",
                ),
                io.String.Output("table", display_name="table", tooltip="Each token's share of the attention."),
                io.Image.Output("frames", display_name="frames", tooltip="The pages step by step, for an animation."),
            ],
        )

    @classmethod
    def execute(
        cls,
        probe: Any,
        latent: Any,
        images: Any,
        second_probe: Any = None,
        second_latent: Any = None,
        second_images: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        settings = validated(MapSettings, inputs)
        names = listed(settings.words)
        first = _panel("probe", probe=probe, latent=latent, images=images, names=names)
        panels = [first]
        if second_probe is not None:
            panels.append(
                _second_panel(second_probe, second_latent, second_images, names=names, count=len(first.images))
            )
        overlays = draw_pages(panels, settings)
        masks = word_masks(
            first.captured.maps()[:, list(first.shown)],
            (first.images.shape[1], first.images.shape[2]),
            settings.threshold if settings.mask == THRESHOLD else None,
        )
        table = "\n\n".join(share_table(panel.captured) for panel in panels)
        frames = draw_frames(panels, settings)
        shown = ui.PreviewImage(overlays, cls=cls)
        return io.NodeOutput(overlays, rearrange(masks, "T B h w -> (T B) h w"), table, frames, ui=shown)


def shown_words(captured: CapturedAttention, names: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the watched words called so, every occurrence; without names, those of the prompt.

    An empty prompt, as negative ones are, has start and padding alone. Raises ValueError for a name not watched.
    """
    if not names:
        everything = range(len(captured.words))
        return tuple(i for i in everything if captured.words[i].in_prompt) or tuple(everything)
    labels = [word.label.casefold() for word in captured.words]
    found = []
    for name in names:
        wanted = name.casefold()
        numbers = [i for i, label in enumerate(labels) if label == wanted or OCCURRENCE.sub("", label) == wanted]
        if not numbers:
            there = ", ".join(word.label for word in captured.words)
            raise ValueError(
                f"words: {quoted(name)} was not watched. The words that were: {shortened(there)}. Write one of those."
            )
        found += numbers
    return tuple(dict.fromkeys(found))


def share_table(captured: CapturedAttention) -> str:
    """Markdown: the share of each watched word in every image, and what is left for other tokens; they sum to 1."""
    shares = captured.shares()
    rest = (1 - shares.sum(dim=1, keepdim=True)).clamp_min(0)
    share_of = [(word.label, shares[:, number]) for number, word in enumerate(captured.words)]
    if float(rest.max()) > SMALLEST_REST:
        share_of.append(("(other tokens)", rest[:, 0]))
    share_of.append(("sum", torch.stack([share for _, share in share_of]).sum(dim=0)))
    images = [f"picture {number + 1}" for number in range(captured.images)]
    cells = [
        [label, *(f"{float(share):.4f}" for share in [*in_images, in_images.mean()])] for label, in_images in share_of
    ]
    table = markdown_table(["token", *images, "mean"], cells)
    prompt = " ".join(captured.prompt.split())
    return "\n\n".join([f"Share of attention, “{prompt}”", table, *filter(None, [captured.note])])


def _panel(where: str, probe: AttentionProbe, latent: Any, images: Tensor, names: Sequence[str]) -> Panel:
    """One probe's maps and pictures; `where` is its input. Raises ValueError when they do not belong together."""
    captured = probe.captured(latent["samples"], where)
    pictures = decoded_pictures(where.replace("probe", "images"), images, captured.images)
    return Panel(pictures, captured, shown_words(captured, names))


def decoded_pictures(input_name: str, images: Tensor, count: int) -> Tensor:
    """As RGB on the CPU, [count, H, W, 3]. Raises ValueError unless there is one for each latent."""
    if len(images) != count:
        raise ValueError(f"{input_name}: got {len(images)} for {count} latents; connect the decoded latents.")
    pictures = torch.stack([rgb(picture) for picture in single_pictures(input_name, [images.cpu()])])
    return rearrange(pictures, "B C H W -> B H W C")


def _second_panel(probe: AttentionProbe, latent: Any, images: Any, names: Sequence[str], count: int) -> Panel:
    """The second probe's panel. Its prompt need not have the words that were asked for: then it shows all."""
    if latent is None or images is None:
        raise ValueError("second_probe: connect second_latent and second_images too, of the second probed sampler.")
    if len(images) != count:
        raise ValueError(f"second_images: got {len(images)} beside {count}; use the same batch size with both probes.")
    labels = {word.label.casefold() for word in probe.captured(latent["samples"], "second_probe").words}
    known = [name for name in names if name.casefold() in labels]
    return _panel("second_probe", probe=probe, latent=latent, images=images, names=known)
