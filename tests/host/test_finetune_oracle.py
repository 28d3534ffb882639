"""One optimizer step of a finetune, against diffusers' U-Net, transformers' CLIP and plain losses, same weights.

The relative difference of the update, ‖ours − theirs‖ / ‖theirs‖, stays below 1e-3 in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from families.build import FAMILIES, state_dict
from families.load import load_family
from families.prepared import Prepared
from oracles import losses as oracle
from oracles import text, unet
from oracles.weights import dora_weight, timestep_change
from torch import Tensor
from torch.func import functional_call

RATE, RANK, SIDE, CATEGORY = 1e-3, 4, 64, "teddy bear"
UNET = "model.diffusion_model."


@dataclass(frozen=True)
class Reference:
    """The same step by the oracles, as the sum of the losses that the names ask for."""

    family: str
    run: Any
    unet: unet.UNetOracle
    text: text.TextOracle
    frozen: dict[str, Tensor] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    gradients: dict[str, Tensor] = field(default_factory=dict)

    def loss(self, parameters: dict[str, Tensor], generators: dict[str, torch.Generator]) -> Tensor:
        run = self.run
        total, maps = self.sample_loss(parameters, run.latents, run.checked.pictures.captions[0], generators["data"])
        if run.checked.alignment is not None:
            row, words = run.checked.pictures.captions[0], run.checked.alignment.category_tokens[0]
            category = range(row.span.stop, row.span.stop + words)
            total = total + oracle.attention_regularizer(maps, list(row.span), list(category), 2.0, 5.0).float()
        class_latents = run.loop.recipe.problem.class_latents
        if class_latents is not None:
            row = run.checked.class_pictures.captions[0]
            total = total + 0.7 * self.sample_loss(parameters, class_latents, row, generators["prompts"])[0]
        return total

    def sample_loss(self, parameters, images, row, generator) -> tuple[Tensor, list[Tensor]]:
        count, batch = len(images.latents), self.run.checked.settings.batch_size
        chosen = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-batch // count))])[:batch]
        t = torch.randint(1000, (batch,), generator=generator).tolist()
        latents = torch.stack(list(images.latents))
        noise = torch.randn(batch, *latents.shape[1:], generator=generator)
        z = latents[chosen]
        context, pooled = self.text.encode(*self.tokens(row))
        z_t = oracle.noised(z, noise, t).float()
        prediction, maps = self.predict(parameters, z_t, torch.tensor(t), context, pooled)
        wanted = oracle.target(z, noise, t, FAMILIES[self.family].prediction)
        mask = None if images.masks is None else torch.stack(list(images.masks))[chosen]
        return oracle.diffusion_loss(prediction, wanted, mask).float(), maps

    def predict(self, parameters, z_t, t, context, pooled) -> tuple[Tensor, list[Tensor]]:
        """parameters: those of the U-Net, or what makes them for a timestep."""
        if callable(parameters):
            parts = [slice(i, i + 1) for i in range(len(t))]
            given = [(parameters(int(t[part])), z_t[part], t[part], context, pooled) for part in parts]
            return torch.cat([self.predict(*values)[0] for values in given]), []
        batch = len(z_t)
        added = None
        if FAMILIES[self.family].pooled_width:
            sizes = unet.sizes_of(SIDE, SIDE, batch)
            added = {"text_embeds": pooled.expand(batch, -1), "time_ids": sizes}
        self.unet.recorder.maps.clear()
        values = (z_t, t, context.expand(batch, -1, -1))
        output = functional_call(self.unet.unet, parameters, values, {"added_cond_kwargs": added}).sample
        return output, list(self.unet.recorder.maps)

    def put_text_weights(self, leaves: dict[str, Tensor]) -> None:
        """LoRAs in the text encoders' weights, alpha as the rank, from `leaves` by their names in the run."""
        trained = self.run.encoder.trainable
        for name in [] if trained is None else trained.adapters:
            path = name.removesuffix(".weight")
            encoder, _, place = path.partition(".transformer.")
            layer = self.text.models[encoder[-1]].get_submodule(place)
            frozen = self.frozen.setdefault(path, layer.weight.detach())
            if "weight" in layer._parameters:
                del layer.weight
            up, down = leaves[f"{path}.lora_up.weight"], leaves[f"{path}.lora_down.weight"]
            layer.weight = frozen + up @ down

    def tokens(self, row: Any) -> tuple[dict[str, list[int]], dict[str, dict[int, Tensor]]]:
        ids, vectors = {}, {}
        for name, tokens in row.tokens.items():
            slots = {i: token.index for i, token in enumerate(tokens) if not isinstance(token, int)}
            ids[name[-1]] = [0 if i in slots else token for i, token in enumerate(tokens)]
            vectors[name[-1]] = {
                i: self.run.checked.concepts.concepts[0].vectors[name][index] for i, index in slots.items()
            }
        return ids, vectors


def names_in_diffusers(family: str) -> dict[str, str]:
    """The host's parameter name → diffusers', found by converting a checkpoint of numbered tensors."""
    weights = {name: value for name, value in state_dict(family).items() if name.startswith(UNET)}
    numbered = {
        name: torch.full_like(value, index, dtype=torch.float64) for index, (name, value) in enumerate(weights.items())
    }
    ours = list(weights)
    converted = convert_ldm_unet_checkpoint(numbered, unet.unet_config(FAMILIES[family]))
    return {ours[int(value.flatten()[0])].removeprefix(UNET): name for name, value in converted.items()}


def prepare(family: str, **given: Any) -> Reference:
    from core_personalization.nodes.concept import Concept
    from core_personalization.nodes.finetune.finetune_inputs import GivenPictures, check_finetune
    from core_personalization.nodes.finetune.finetune_settings import FinetuneSettings
    from core_personalization.nodes.finetune.finetuning import ready_to_finetune
    from core_personalization.nodes.host.models.host_models import HostModels
    from core_personalization.nodes.host.models.text_encoder import encoder_widths
    from core_personalization.nodes.settings import validated

    generator = torch.Generator().manual_seed(2)
    models = load_family(family)
    vectors = {
        name: 0.02 * torch.randn(1, width, generator=generator) for name, width in encoder_widths(models[1]).items()
    }
    concept = Concept("learned", CATEGORY, vectors, Path("learned.safetensors"), with_category=True)
    masks = (
        [torch.rand(SIDE, SIDE, generator=generator)[None] for _ in range(2)] if given.pop("masked", False) else None
    )
    class_images = torch.rand(3, SIDE, SIDE, 3, generator=generator) if given.pop("prior", False) else None
    pictures = GivenPictures(
        [torch.rand(2, SIDE, SIDE, 3, generator=generator)],
        masks,
        None,
        None if class_images is None else [class_images],
    )
    settings = {"name": "oracle", "batch_size": 3, "learning_rate": RATE, "resolution": SIDE, "rank": RANK}
    settings |= {"precision": "fp32", "steps": 1, "prior_weight": 0.7, "seed": 5}
    host = HostModels(*models)
    chosen = validated(FinetuneSettings, {**settings, **given})
    with torch.inference_mode():
        checked = check_finetune(host, concept, pictures, chosen)
        run = Prepared(ready_to_finetune(host, checked), checked)
    return Reference(family, run, unet.load_oracle(family), text.load_oracle(family))


def stepped(reference: Reference, trained: dict[str, Tensor], parameters_of: Any) -> dict[str, Tensor]:
    """The change of each trained tensor after one step of torch's AdamW on the oracle's loss."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in trained.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=RATE, weight_decay=1e-2)
    generators = {name: torch.Generator().manual_seed(5 + offset) for offset, name in enumerate(("data", "prompts"))}
    loss = reference.loss(parameters_of(leaves), generators)
    loss.backward()
    reference.losses.append(loss.item())
    reference.gradients.update({name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None})
    optimizer.step()
    return {name: leaf.detach() - trained[name] for name, leaf in leaves.items()}


def assert_same_update(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    difference = sum((ours[name].double() - theirs[name].double()).square().sum() for name in ours)
    size = sum(value.double().square().sum() for value in theirs.values())
    assert size > 0
    assert float((difference / size).sqrt()) < 1e-3


WHOLE, CROSS = {"scope": "whole U-Net"}, {"scope": "cross-attention layers"}
REGULARIZED = {"alignment_mean": 2.0, "alignment_variance": 5.0}


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("sd1", WHOLE),
        ("sd2_v", WHOLE),
        ("sdxl", CROSS),
        ("sd1", CROSS | {"masked": True}),
        ("sd1", CROSS | {"prior": True}),
        ("sd1", CROSS | REGULARIZED),
        ("sd2", CROSS | REGULARIZED | {"prior": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(str(v) for v in value.values()),
)
def test_one_step_of_full_weights(family, given):
    reference = prepare(family, **given)
    run, names = reference.run, names_in_diffusers(family)
    before = {names[name]: value.detach().clone() for name, value in run.denoiser.trainable.parameters.items()}
    next(iter(run.loop))
    ours = {
        names[name]: value.detach() - before[names[name]] for name, value in run.denoiser.trainable.parameters.items()
    }
    everything = dict(reference.unet.unet.named_parameters())
    theirs = stepped(reference, before, lambda leaves: {**everything, **leaves})
    assert_same_update(ours, theirs)


@pytest.mark.parametrize(("form", "scope"), [("LoRA", "attention layers"), ("DoRA", "cross-attention layers")])
def test_one_step_of_an_adapter(form, scope):
    reference = prepare("sd1", form=form, scope=scope)
    run, names = reference.run, names_in_diffusers("sd1")
    parameters = run.denoiser.trainable.parameters
    before = {name: value.detach().clone() for name, value in parameters.items()}
    assert len(before) == (3 if form == "DoRA" else 2) * len(run.denoiser.trainable.adapters)
    next(iter(run.loop))
    ours = {name: value.detach() - before[name] for name, value in parameters.items()}
    everything = dict(reference.unet.unet.named_parameters())

    def adapted(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        changed = dict(everything)
        for name in run.denoiser.trainable.adapters:
            path, weight = name.removesuffix(".weight"), everything[names[name]]
            up, down = leaves[f"{path}.lora_up.weight"], leaves[f"{path}.lora_down.weight"]
            if form == "DoRA":
                lengths = leaves[f"{path}.dora_scale"]
                changed[names[name]] = dora_weight(weight, up, down, 16.0 / RANK, lengths).float()
            else:
                changed[names[name]] = weight + 16.0 / RANK * (up @ down).view_as(weight)
        return changed

    assert_same_update(ours, stepped(reference, before, adapted))


def stirred(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the parameters, which are moved first, so that both matrices of a LoRA have a gradient."""
    with torch.no_grad():
        for place, value in enumerate(parameters.values()):
            value.add_(0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(place)))
    return {name: value.detach().clone() for name, value in parameters.items()}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_one_step_of_t_lora_and_of_the_text_encoder(family):
    """T-LoRA's weights made anew for each picture's timestep, rank by rank, as the paper writes them.

    The text encoder's LoRA goes into transformers' CLIP.
    """
    given = {"form": "T-LoRA", "scope": "cross-attention layers", "least_rank": 0.25, "rank_power": 2.0}
    reference = prepare(family, **given, train_text_encoder=True, text_encoder_rate=RATE)
    run, names = reference.run, names_in_diffusers(family)
    trained, text_weights = run.denoiser.trainable, run.encoder.trainable.parameters
    before = stirred({**trained.parameters, **text_weights})
    report = next(iter(run.loop))
    everything = dict(reference.unet.unet.named_parameters())

    def parameters_of(leaves: dict[str, Tensor]) -> Any:
        reference.put_text_weights(leaves)

        def at(t: int) -> dict[str, Tensor]:
            changed = dict(everything)
            for name, adapter in trained.adapters.items():
                path = name.removesuffix(".weight")
                now = [leaves[f"{path}.{part}"] for part in ("up", "scale", "down")]
                start = [getattr(adapter, f"start_{part}") for part in ("up", "scale", "down")]
                change = timestep_change(now, start, ranks=int(((1000 - t) / 1000) ** 2 * (RANK - 1)) + 1)
                changed[names[name]] = everything[names[name]] + change.float()
            return changed

        return at

    stepped(reference, before, parameters_of)
    assert reference.losses == [pytest.approx(report.total, rel=1e-4)]
    for part in (trained.parameters, text_weights):  # gradients, for AdamW's first step makes most of the least
        assert_same_update(
            {name: p.grad for name, p in part.items()}, {name: reference.gradients[name] for name in part}
        )


def test_one_step_of_full_weights_and_of_the_text_encoder_with_class_images():
    """Both captions are encoded anew."""
    given = {"scope": "keys and values of cross-attention", "prior": True}
    reference = prepare("sd1", **given, train_text_encoder=True, text_encoder_rate=0.0)
    run, names = reference.run, names_in_diffusers("sd1")
    weights, text_weights = (each.trainable.parameters for each in (run.denoiser, run.encoder))
    before = {name: value.detach().clone() for name, value in weights.items()} | stirred(text_weights)
    report = next(iter(run.loop))
    ours = {name: value.detach() - before[name] for name, value in {**weights, **text_weights}.items()}
    everything = dict(reference.unet.unet.named_parameters())

    def parameters_of(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        reference.put_text_weights(leaves)
        return everything | {names[name]: value for name, value in leaves.items() if name in weights}

    theirs = stepped(reference, before, parameters_of)
    assert reference.losses == [pytest.approx(report.total, rel=1e-4)]
    for part in (weights, text_weights):
        assert_same_update({name: ours[name] for name in part}, {name: theirs[name] for name in part})


@pytest.mark.parametrize("family", ["sd1", "sd2", "sd2_v", "sdxl"])
def test_semantic_preservation(family):
    """ClassDiffusion's term and its gradient on v, by transformers' CLIP."""
    reference = prepare(family, scope="keys and values of cross-attention", train_embedding=True, semantic_weight=1.0)
    recipe = reference.run.loop.recipe
    passes = recipe.training_step(reference.run.loop.random).objective.passes
    (own,) = (each for each in passes if each.names == ("semantic_preservation",))
    (value,), vectors = own.compute(), recipe.problem.embedding.vectors
    ours = torch.autograd.grad(value, list(vectors.values()))

    ends = []
    for row in recipe.problem.class_prompts[0]:
        ids, _ = reference.tokens(row)
        put = {
            name[-1]: {i: vectors[name][0] for i, token in enumerate(tokens) if not isinstance(token, int)}
            for name, tokens in row.tokens.items()
        }
        context, _ = reference.text.encode(ids, put)
        ends.append(context[:, row.end].split([v.shape[1] for v in vectors.values()], dim=-1))
    distances = [oracle.semantic_preservation(*pair) for pair in zip(*ends, strict=True)]
    expected = sum(distances) / len(distances)
    theirs = torch.autograd.grad(expected, list(vectors.values()))
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()
