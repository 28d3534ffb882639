"""What one would train with instead, of diffusers' and transformers' own parts, on the weights and pictures of ours.

Written for this comparison after diffusers' examples `textual_inversion` and `dreambooth`, and after the released
programs of AttnDreamBooth and CoRe, which read whole attention maps. They draw their batches as ours do, from the same
seeds: the first loss of both must agree, and is compared. Latents are cached for both, which the examples do not do;
`textual-inversion-pixels` encodes its pictures in every step as they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..comfyui import load_pack
from .child import Step
from .peer_text import Ids, PeerText, Text
from .task import Task

EMBEDDING_RATE, WEIGHTS_RATE = 5e-3, 2e-6
CONTEXT_WEIGHTS = {"embedding": 1.5e-4, "attention": 0.05}
STEADY_MOMENTS = (0.1, 0.0), (2.0, 5.0)


def import_libraries(task: Task) -> None:
    load_pack()
    import diffusers  # noqa: F401
    from core_personalization.core_ops.training import training_data  # noqa: F401
    from oracles import text, unet  # noqa: F401


@dataclass
class MapKeeper:
    """diffusers' plain attention in every layer; keeps each cross-attention's map, tokens first: [B, N, H, P]."""

    maps: list[Tensor] = field(default_factory=list)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Any:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = attn.get_attention_scores(query, key, None)
        if encoder_hidden_states is not None:
            tokens_first = torch.stack(list(probabilities.permute(2, 0, 1)))  # [N, B·H, P]
            self.maps.append(tokens_first.unflatten(1, (-1, attn.heads)).permute(1, 0, 2, 3))
        return attn.to_out[0](attn.batch_to_head_dim(torch.bmm(probabilities, value)))

    def taken(self) -> list[Tensor]:
        maps, self.maps = self.maps, []
        return maps


class Peer:
    """diffusers' U-Net and transformers' text encoders with the task's weights, and batches as ours are drawn."""

    def __init__(self, task: Task) -> None:
        from core_personalization.core_ops.diffusion_process import NoiseSchedule
        from core_personalization.core_ops.training.training_data import TrainingLatents
        from diffusers import DDPMScheduler
        from oracles.unet import diffusers_unet, sizes_of

        self.task, self.device = task, torch.device(task.device)
        weights = load_file(task.weights)
        self.unet = diffusers_unet(task.family, weights).to(self.device)
        self.text = PeerText(task.family, weights, self.device)
        self.sizes = sizes_of(task.side, task.side, task.batch).to(self.device)
        shared = torch.load(task.shared, weights_only=True)
        self.captions, self.prompts = shared["captions"], shared["prompts"]
        self.start = {name: vectors.to(self.device) for name, vectors in shared["vectors"].items()}
        scheduler = DDPMScheduler(
            1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="epsilon"
        )
        self.schedule = NoiseSchedule(scheduler.alphas_cumprod.to(self.device), "epsilon")
        captions: Any = range(len(self.captions))
        self.latents = TrainingLatents(shared["latents"].to(self.device), captions, shared["caption_of_latent"])
        self.random = {name: torch.Generator().manual_seed(seed) for seed, name in enumerate(("data", "prompts"))}

    def draw(self) -> Any:
        from core_personalization.core_ops.training.training_data import draw_batch

        batch = draw_batch(self.latents, self.schedule, self.task.batch, self.random["data"])
        (pictures,) = batch.parts
        return SimpleNamespace(**{**vars(pictures), "captions": batch.captions})

    def ids(self, rows: Sequence[Any]) -> Ids:
        """With -1 - i for vector number i."""
        return {name: torch.tensor([row["tokens"][name] for row in rows], device=self.device) for name in self.start}

    def captions_of(self, batch: Any) -> list[Any]:
        """One caption for each sample."""
        return [self.captions[batch.captions[index]] for index in batch.caption_of_sample.tolist()]

    def predict(self, z_t: Tensor, t: Tensor, text: Text) -> Tensor:
        """In the task's precision: the weights themselves when frozen, else by autocast."""
        dtype = next(self.unet.parameters()).dtype
        added = None
        if text.pooled is not None:
            added = {"text_embeds": text.pooled.to(dtype), "time_ids": self.sizes}
        with torch.autocast(self.device.type, self.task.dtype, enabled=dtype != self.task.dtype):
            return self.unet(z_t.to(dtype), t, text.context.to(dtype), added_cond_kwargs=added).sample.float()


class LearnedVectors:
    """v in the place of the ids below zero, as an input to the frozen text encoders."""

    def __init__(self, peer: Peer, trained: bool) -> None:
        self.vectors = {name: nn.Parameter(start.clone(), requires_grad=trained) for name, start in peer.start.items()}
        self._peer = peer
        self._ids: Ids = {}
        for name, model in peer.text.models.items():
            model.get_input_embeddings().register_forward_hook(partial(self._fill, name))

    def encode(self, rows: Sequence[Any]) -> Text:
        self._ids = self._peer.ids(rows)
        return self._peer.text.encode({name: ids.clamp(min=0) for name, ids in self._ids.items()})

    def _fill(self, name: str, _module: nn.Module, _inputs: Any, embeddings: Tensor) -> Tensor:
        ids = self._ids[name]
        if not bool((ids < 0).any()):
            return embeddings
        return torch.where((ids < 0).unsqueeze(-1), self.vectors[name][(-1 - ids).clamp(min=0)], embeddings)


def adamw(parameters: Iterable[Tensor], rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(list(parameters), lr=rate, weight_decay=1e-2)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach().item()


def textual_inversion(task: Task) -> Step:
    """The whole table of input embeddings is trained, and all rows but the concept's are put back after each step."""
    peer = Peer(task)
    tables = {name: _grown_table(model, peer.start[name]) for name, model in peer.text.models.items()}
    untouched = {name: table[: -len(peer.start[name])].detach().clone() for name, table in tables.items()}
    optimizer = adamw(tables.values(), EMBEDDING_RATE)
    peer.unet.to(task.dtype)

    def step() -> float:
        batch = peer.draw()
        ids = peer.ids(peer.captions_of(batch))
        text = peer.text.encode(
            {name: torch.where(row < 0, len(untouched[name]) - 1 - row, row) for name, row in ids.items()}
        )
        loss = descend(F.mse_loss(peer.predict(batch.z_t, batch.t, text), batch.target), optimizer)
        with torch.no_grad():
            for name, rows in untouched.items():
                tables[name][: len(rows)] = rows
        return loss

    return step


def _grown_table(model: nn.Module, start: Tensor) -> nn.Parameter:
    """The text encoder's table of input embeddings, trainable, with the concept's rows at its end."""
    embedding = model.get_input_embeddings()
    table = nn.Parameter(torch.cat([embedding.weight.detach(), start]))
    embedding.weight, embedding.num_embeddings = table, len(table)
    return table


def textual_inversion_pixels(task: Task) -> Step:
    """With Stable Diffusion's VAE encoding the pictures of each step, as the example does."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    vae.to(task.device, task.dtype).requires_grad_(False)
    pictures = torch.rand(task.batch, 3, task.side, task.side, device=task.device, dtype=task.dtype)
    train = textual_inversion(task)

    def step() -> float | None:
        vae.encode(pictures).latent_dist.sample()
        train()
        return None

    return step


def core(task: Task) -> Step:
    """Three passes, each with its maps: the pictures' captions, the prompt with v, and with the super-category."""
    peer, keeper = Peer(task), MapKeeper()
    learned = LearnedVectors(peer, trained=True)
    optimizer = adamw(learned.vectors.values(), EMBEDDING_RATE)
    peer.unet.to(task.dtype).set_attn_processor(keeper)

    def maps_for(batch: Any, text: Text) -> list[Tensor]:
        peer.predict(batch.z_t, batch.t, text.expand(task.batch))
        return keeper.taken()

    def step() -> float:
        batch = peer.draw()
        concept, reference = peer.prompts[int(torch.randint(len(peer.prompts), (), generator=peer.random["prompts"]))]
        prediction = peer.predict(batch.z_t, batch.t, learned.encode(peer.captions_of(batch)))
        keeper.taken()
        text, other = learned.encode([concept]), learned.encode([reference])
        loss = F.mse_loss(prediction, batch.target)
        here, there = concept["context"], reference["context"]
        similarity = F.cosine_similarity(text.context[0, here], other.context[0, there], dim=0)
        loss = loss + CONTEXT_WEIGHTS["embedding"] * (1 - similarity).mean()
        pairs = zip(maps_for(batch, text), maps_for(batch, other), strict=True)
        differences = [a[:, here].float().mean((2, 3)) - b[:, there].float().mean((2, 3)) for a, b in pairs]
        attention = torch.stack([difference.square().mean(-1).sum() for difference in differences]).mean()
        return descend(loss + CONTEXT_WEIGHTS["attention"] * attention, optimizer)

    return step


def attndreambooth(stage: int) -> Callable[[Task], Step]:
    mean_weight, variance_weight = STEADY_MOMENTS[stage > 1]

    def build(task: Task) -> Step:
        peer, keeper = Peer(task), MapKeeper()
        learned = LearnedVectors(peer, trained=stage == 1)
        if stage == 1:
            optimizer = adamw(learned.vectors.values(), EMBEDDING_RATE)
            peer.unet.to(task.dtype)
        else:
            optimizer = adamw(_made_trainable(peer.unet, "attn2" if stage == 2 else ""), WEIGHTS_RATE)
        peer.unet.set_attn_processor(keeper)

        def step() -> float:
            batch = peer.draw()
            rows = peer.captions_of(batch)
            prediction = peer.predict(batch.z_t, batch.t, learned.encode(rows))
            last = rows[0]["span"][-1]
            per_layer = []
            for maps in keeper.taken():
                concept = maps[:, rows[0]["span"]].float().mean(1).flatten(1)
                category = maps[:, last + 1].float().flatten(1)
                mean = (concept.mean(1) - category.mean(1)).square()
                variance = (concept.var(1) - category.var(1)).square()
                per_layer.append((mean_weight * mean + variance_weight * variance).sum())
            return descend(F.mse_loss(prediction, batch.target) + torch.stack(per_layer).mean(), optimizer)

        return step

    return build


def dreambooth(task: Task) -> Step:
    """The whole U-Net; the frozen text encoder runs in every step, as in the example."""
    peer = Peer(task)
    learned = LearnedVectors(peer, trained=False)
    optimizer = adamw(_made_trainable(peer.unet, ""), WEIGHTS_RATE)

    def step() -> float:
        batch = peer.draw()
        text = learned.encode(peer.captions_of(batch))
        return descend(F.mse_loss(peer.predict(batch.z_t, batch.t, text), batch.target), optimizer)

    return step


def _made_trainable(unet: nn.Module, part: str) -> list[Tensor]:
    chosen = [parameter for name, parameter in unet.named_parameters() if part in name]
    for parameter in chosen:
        parameter.requires_grad_()
    return chosen


SUBJECTS: dict[str, Callable[[Task], Step]] = {
    "textual-inversion": textual_inversion,
    "textual-inversion-pixels": textual_inversion_pixels,
    "core": core,
    "attndreambooth-1": attndreambooth(1),
    "attndreambooth-2": attndreambooth(2),
    "attndreambooth-3": attndreambooth(3),
    "finetune": dreambooth,
}
