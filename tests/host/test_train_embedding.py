"""The node "CoRe Train Embedding" on real ComfyUI objects: small random-weight models of all four families."""

from __future__ import annotations

import json

import pytest
import torch
from core_personalization.core_ops.losses.context_losses import token_means
from core_personalization.core_ops.training.training_data import draw_batch
from core_personalization.nodes.files.safe_files import read, tensor_hash
from families.build import FAMILIES
from families.embedding import embedding_run, execute, host_conditioning, pictures
from families.hashing import weights_hash
from families.load import load_family
from safetensors.torch import load_file


@pytest.mark.every_comfyui
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_trains_and_core_reads_its_file_alike(family, embeddings):
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    models = load_family(family, embedding_directory=str(embeddings))
    before = weights_hash(models)
    concept, token, loss_map, preview, *_ = execute(models, concept_name=f"family-{family}", vectors=2)
    assert weights_hash(models) == before
    assert token == f"embedding:family-{family}"
    assert len(loss_map["loss"]) == len(loss_map["context_attention"]) == 4
    assert preview.shape == (1, 64, 128, 3)

    keys = {"clip_l", "clip_g"} if family == "sdxl" else {"emb_params"}
    tensors = load_file(concept.path)
    assert tensors.keys() == keys
    assert all(tensor.shape[0] == 2 and tensor.dtype == torch.float32 for tensor in tensors.values())

    clip = models[1]
    row = PromptRows(clip, "dog", vectors=2).concept("a (red:1.3) {}, in the jungle")
    trained = HostTextEncoder(clip).encode([row], concept.vectors).context
    written = host_conditioning(clip, f"a (red:1.3) {token}, in the jungle")
    assert (trained - written).abs().max() < 1e-5


@pytest.mark.parametrize(
    "method",
    [
        "CoRe",
        "CoRe fast",
        "CoRe (reference code)",
        "AttnDreamBooth stage 1",
        "TI + ViCo's regularizer",
        "Textual Inversion",
    ],
)
def test_every_method_trains_with_everything_connected(sd1, method):
    images, masks = [*pictures(1), torch.rand(1, 80, 70, 4)], [torch.rand(1, 64, 64), torch.rand(1, 80, 70)]
    settings = {"concept_name": "everything", "method": method, "super_category": "teddy bear", "preview_every": 2}
    settings |= {"augmentation": 2, "fit": "pad", "weighting": "balanced", "gradient_accumulation": 2}
    settings |= {"gradient_checkpointing": True, "max_gradient_norm": 1.0, "regularization_batch": 1}
    settings |= {"initial_words": "small brown toy", "prompt_set": "own"}
    settings |= {"own_prompts": "a {} in snow\n# comment\na red {}"}
    captions = ["a {} on a table", "a {} in the grass"]
    concept, token, losses, *_ = execute(sd1, images, masks, captions, **settings)
    assert token == ("embedding:everything teddy bear" if method.startswith("Attn") else "embedding:everything")
    assert concept.phrase == token
    assert all(value == value for value in losses["loss"])


def test_gradient_checkpointing_changes_nothing_but_rounding(sd1):
    runs = [execute(sd1, concept_name="checkpointed", gradient_checkpointing=on)[0] for on in (False, True)]
    torch.testing.assert_close(runs[0].vectors, runs[1].vectors, rtol=1e-5, atol=1e-7)


def test_the_same_seed_gives_the_same_file_tensors(sd1):
    first, second, other = (execute(sd1, concept_name="seeded", seed=seed)[0].vectors["clip_l"] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_applied_patches_count_in_training(sd1):
    """A LoRA on the incoming MODEL changes what is learned."""
    model, clip, vae = sd1
    key = next(name for name in model.model.state_dict() if name.endswith("attn2.to_k.weight"))
    patched = model.clone()
    with torch.inference_mode():
        patched.add_patches({key: (torch.randn_like(model.model.state_dict()[key]),)}, 1.0)
    plain, *_ = execute(sd1, concept_name="plain")
    changed, *_ = execute((patched, clip, vae), concept_name="patched")
    assert not torch.equal(plain.vectors["clip_l"], changed.vectors["clip_l"])


def test_concept_prompt_fills_the_template(sd1):
    from core_personalization.nodes.sharing.concept_prompt import ConceptPrompt

    concept, *_ = execute(sd1, concept_name="prompted", steps=1)
    assert ConceptPrompt.execute(concept, "a {} in space").args == ("a embedding:prompted in space",)
    with pytest.raises(ValueError, match="template"):
        ConceptPrompt.execute(concept, "a dog")


def test_core_lowers_both_regularizers_and_both_methods_learn(sd1):
    """Over the prompt set, against Textual Inversion; diffusion loss on fixed (image, ε, t)."""

    def finish(method):
        weights = {"embedding_weight": 0.5, "attention_weight": 500.0, "regularization_batch": 1}
        rates = {"steps": 20, "learning_rate": 5e-3, "rescale_to": 0}
        run = embedding_run(sd1, pictures(), method=method, **weights, **rates)
        with torch.inference_mode():
            run.train()
        generator = torch.Generator().manual_seed(99)
        batches = [draw_batch(run.loop.recipe.problem.latents, run.denoiser.schedule, 2, generator) for _ in range(8)]
        return run, batches

    core, batches = finish("CoRe")
    plain, _ = finish("Textual Inversion")
    regularizers = {
        name: regularization(core.loop.recipe, run.embedding, batches[0])
        for name, run in {"core": core, "plain": plain}.items()
    }
    assert regularizers["core"][0] < regularizers["plain"][0]
    assert regularizers["core"][1] < regularizers["plain"][1]
    start = core.start
    for run in (core, plain):
        assert fixed_diffusion_loss(run, run.embedding.vectors, batches) < fixed_diffusion_loss(run, start, batches)


@torch.no_grad()
def regularization(recipe, embedding, batch) -> tuple[float, float]:
    """L_emb and L_attn summed over every fifth prompt of the set."""
    sums = [0.0, 0.0]
    for index, pair in list(enumerate(recipe.prompts))[::5]:
        text = recipe.problem.encoder.encode([pair.concept], embedding.vectors)
        reference = recipe.reference(index)
        sums[0] += float(recipe.embedding_loss(text, reference, pair))
        sums[1] += float(recipe.attention_loss(batch, text, reference, pair))
    return sums[0], sums[1]


@torch.no_grad()
def fixed_diffusion_loss(run, vectors, batches) -> float:
    texts = [run.encoder.encode(batch.captions, vectors) for batch in batches]
    return sum(float(batch.diffusion_loss(run.denoiser, text)) for batch, text in zip(batches, texts, strict=True))


def test_the_file_says_what_it_is_and_how_it_was_made(sd1):
    concept, _, losses, *_ = execute(sd1, concept_name="with-card", seed=5)
    tensors, metadata = read(concept.path)
    assert metadata["modelspec.trigger_phrase"] == "embedding:with-card"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert metadata["modelspec.hash_sha256"] == tensor_hash(tensors)
    card = {key.removeprefix("core_personalization."): value for key, value in metadata.items()}
    assert json.loads(card["settings"])["seed"] == 5
    assert json.loads(card["final_terms"])["diffusion"] == losses["diffusion"][-1]
    assert len(json.loads(card["base_model_fingerprint"]).split()[0]) == 64


def test_whole_maps_average_to_the_token_means(sd1):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan
    from core_personalization.nodes.host.models.text_encoder import HostTextEncoder
    from core_personalization.nodes.host.prompts.prompt_rows import PromptRows

    model, clip, _ = sd1
    denoiser = HostDenoiser(model, UNetPlan(torch.float32))
    with torch.no_grad():
        text = HostTextEncoder(clip).encode([PromptRows(clip, "dog").text("a dog in the snow")], {})
        inputs = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), text
        plain = denoiser(*inputs)
        prediction, means = denoiser.with_attention(*inputs, token_means)
        _, maps = denoiser.with_attention(*inputs, lambda probabilities: probabilities)
    torch.testing.assert_close(prediction, plain, rtol=1e-4, atol=1e-5)
    assert len(maps) == len(means) > 1
    for layer, mean in zip(maps, means, strict=True):
        assert layer.shape[0] == 2 and layer.shape[-1] == 77
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:-1]))
        torch.testing.assert_close(layer.mean((1, 2)), mean)
