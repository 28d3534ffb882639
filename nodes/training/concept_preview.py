"""Pictures of the concept as it is, in a few contexts, beside one of those that it is learned from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...core_ops.conditioning import TextConditioning
from ...core_ops.diffusion_process import DDIMConfig, TextAt, ddim_sample
from ...core_ops.pictures import Pictures
from ...core_ops.prompts.prompt_templates import validate_template
from ...core_ops.prompts.token_rows import TokenRow
from ...core_ops.space_time.space_time_embedding import SpaceTimeEmbedding
from ...core_ops.training.embedding_problem import TrainableEmbedding
from ..concept import Concept
from ..host.models import latents
from ..host.models.host_models import HostModels, TrainingModels
from ..host.models.module_copy import autograd_mode
from ..host.prompts.prompt_rows import PromptRows, naming
from ..host.run_control import RunProgress
from .memory_plan import CELL

PREVIEW_TEMPLATES = ("a photo of a {}", "a {} in the snow", "a {} on the beach", "a painting of a {}")
MOST_REFERENCES, MOST_SHOWN = 4, 25


@dataclass(frozen=True)
class PreviewPlan:
    """prompts: one picture each, as the concept's method writes them. references: a picture of each concept, [3, H, W].
    side: of a picture, in pixels.
    """

    prompts: Sequence[TokenRow]
    negative: TokenRow
    references: Sequence[Tensor]
    sampler: DDIMConfig
    side: int

    @classmethod
    def of(cls, settings: Any, concept: Concept, rows: PromptRows, pictures: Pictures) -> PreviewPlan:
        """Raises ValueError for prompts that cannot be drawn."""
        with naming("preview_prompts"):
            prompts = [rows.concept(concept.caption(template)) for template in preview_templates(settings)]
        with naming("preview_negative"):
            negative = rows.text(settings.preview_negative)
        sampler = DDIMConfig(settings.preview_steps, settings.preview_guidance)
        return cls(prompts, negative, pictures.shown(1), sampler, settings.preview_size or settings.resolution)

    def with_others(self, others: Sequence[PreviewPlan], together: Sequence[TokenRow]) -> PreviewPlan:
        """And of other concepts that are trained along; together: prompts with all of them."""
        return replace(
            self,
            prompts=[*self.prompts, *(prompt for other in others for prompt in other.prompts), *together],
            references=[*self.references, *(picture for other in others for picture in other.references)],
        )


def preview_templates(settings: Any) -> Sequence[str]:
    """Of a training node's settings; raises ValueError for a line that is no template."""
    own = [line.strip() for line in settings.preview_prompts.splitlines() if line.strip()]
    for template in own:
        validate_template("preview_prompts", template)
    return own or PREVIEW_TEMPLATES


class ConceptPreview:
    def __init__(self, host: HostModels, models: TrainingModels, plan: PreviewPlan) -> None:
        self._host, self._models, self._plan = host, models, plan
        self._kept: tuple[list[TextConditioning | TextAt], TextConditioning] | None = None

    def keep_prompts(self, embedding: TrainableEmbedding) -> None:
        """Encodes the prompts once and for all with it as it is: it needs the encoder no more."""
        self._kept = self._encoded(embedding)

    def draw(self, embedding: TrainableEmbedding, channels: int) -> Tensor:
        """The references and the pictures, [1, H, W, 3]; channels: of the latents. Changes no random state."""
        plan, cells = self._plan, self._plan.side // CELL
        noise = torch.randn(len(plan.prompts), channels, cells, cells, generator=torch.Generator().manual_seed(0))
        with autograd_mode(), torch.no_grad():
            texts, negative = self._kept or self._encoded(embedding)
            noise = noise.to(self._host.device)
            # One after another: together they would take more memory than the training.
            pictures = [
                ddim_sample(
                    self._models.denoiser, text, unconditional=negative, noise=each.unsqueeze(0), config=plan.sampler
                )
                for text, each in zip(texts, noise, strict=True)
            ]
        drawn = latents.decode(self._host.model, self._host.vae, torch.cat(pictures))
        return in_rows([*(picture.movedim(0, -1) for picture in plan.references), *drawn])

    @torch.no_grad()
    def _encoded(self, embedding: TrainableEmbedding) -> tuple[list[TextConditioning | TextAt], TextConditioning]:
        """Each prompt, by timestep where it differs by that; and the negative one."""
        encoder, prompts = self._models.encoder, self._plan.prompts
        negative = encoder.encode([self._plan.negative], {})
        if isinstance(embedding, SpaceTimeEmbedding):
            return [partial(embedding.text, encoder, [prompt]) for prompt in prompts], negative
        text = encoder.encode(prompts, embedding.vectors)
        return [text[place : place + 1] for place in range(len(prompts))], negative


def in_rows(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures [h, w, 3] on one, [1, H, W, 3], each within the size of the last, about as many in a row as there are
    rows."""
    columns = math.ceil(math.sqrt(len(pictures)))
    tiles = [_within(each, pictures[-1].shape[:2]) for each in pictures]
    tiles += [torch.ones_like(tiles[0])] * (-len(tiles) % columns)
    rows = [torch.cat(tiles[start : start + columns], dim=1) for start in range(0, len(tiles), columns)]
    return torch.cat(rows).clamp(0, 1).unsqueeze(0)


def show_pictures(pictures: Pictures, node_id: str | None) -> None:
    """On the node, as they are trained, before the first step."""
    RunProgress(1, node_id).show(0, _sheet(pictures, MOST_SHOWN)[0])


def _within(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """[h, w, 3] → [H, W, 3], its proportions kept, on white."""
    height, width = picture.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    rows, columns = round(scale * height), round(scale * width)
    pixels = picture.movedim(-1, 0).unsqueeze(0).float()
    scaled = interpolate(pixels, (rows, columns), mode="bilinear", antialias=True)[0].movedim(0, -1)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    tile = torch.ones(*size, picture.shape[-1])
    tile[top : top + rows, left : left + columns] = scaled
    return tile


def references(pictures: Pictures) -> Tensor:
    """In place of a preview, [1, H, W, 3]: some of the pictures."""
    return _sheet(pictures, MOST_REFERENCES)


def _sheet(pictures: Pictures, count: int) -> Tensor:
    return in_rows([picture.movedim(0, -1) for picture in pictures.shown(count)])
