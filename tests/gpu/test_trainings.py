"""Every method and every form in every number format, with the CPU's losses where rounding allows to compare."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from core_personalization.nodes.embedding.methods import METHODS
from families.concepts import sample
from families.finetuning import execute, pictures
from families.load import load_file
from robustness.smallest import SMALLEST
from robustness.subjects import Result, finetune, train_embedding

from gpu.card import full_precision, on_the_cpu

FORMS = ["full weights", "LoRA", "DoRA", "T-LoRA", "LoHa", "LoKr", "OFT", "singular values"]
CASES = [{"method": method} for method in METHODS] + [{"form": form} for form in FORMS]
CASES += [{"train_text_encoder": True, "form": "DoRA"}]
STEPS = 2
cases = pytest.mark.parametrize("settings", CASES, ids=lambda settings: next(iter(settings.values())))


def trained(models, name: str, **settings) -> Result:
    return (finetune if "form" in settings else train_embedding)(models, name, **{"steps": STEPS, **settings})


@pytest.fixture(scope="module")
def on_both(smallest_file, embeddings) -> Callable[..., tuple[Result, Result]]:
    """A training on the card and one on the CPU, from weights in fp32."""

    def load():
        return load_file(SMALLEST, smallest_file, str(embeddings))

    with full_precision():
        here, there = load(), on_the_cpu(load)

    def both(**settings) -> tuple[Result, Result]:
        settings = {"learning_rate": 1e-3, "name": "compared", **settings}
        with full_precision():
            return trained(here, **settings), on_the_cpu(lambda: trained(there, **settings))

    return both


@pytest.mark.usefixtures("no_last_preview")
@cases
def test_the_card_gives_the_losses_of_the_cpu(on_both, settings):
    card, cpu = on_both(**settings, precision="fp32")
    torch.testing.assert_close(card["losses"], cpu["losses"], rtol=1e-3, atol=0)
    assert len(set(card["losses"].tolist())) > 1


@pytest.mark.usefixtures("no_last_preview")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@cases
def test_half_precision_stays_finite(models, settings, precision):
    result = trained(models, "half", **settings, precision=precision)
    assert all(value.isfinite().all() for value in result.values())


@pytest.mark.usefixtures("no_last_preview")
@pytest.mark.parametrize("settings", [{"method": "CoRe"}, {"form": "LoRA"}], ids=["embedding", "LoRA"])
def test_layers_in_main_memory_learn_the_same(models, settings):
    here, away = (trained(models, "away", **settings, precision="fp32", offload=share) for share in (0.0, 1.0))
    for name in here:
        torch.testing.assert_close(away[name], here[name], rtol=1e-4, atol=1e-6)


def test_as_much_of_the_unet_as_asked_lies_in_main_memory(models):
    from core_personalization.nodes.host.models.denoiser import HostDenoiser, UNetPlan

    def away(share: float) -> float:
        with torch.inference_mode():
            unet = HostDenoiser(models[0], UNetPlan(torch.float16, offload=share)).unet
        sizes = {weight: weight.nbytes for weight in unet.parameters() if weight.ndim > 1}
        return sum(size for weight, size in sizes.items() if weight.device.type == "cpu") / sum(sizes.values())

    assert away(0.0) == 0
    assert 0.3 < away(0.5) <= 0.51
    assert away(1.0) > 0.99


@pytest.mark.parametrize("settings", [{"method": "CoRe"}, {"form": "LoRA"}], ids=["embedding", "LoRA"])
def test_sdxl_trains_with_everything_switched_on(sdxl, settings):
    more = {"gradient_checkpointing": True, "gradient_accumulation": 2, "max_gradient_norm": 1.0, "preview_every": 2}
    result = trained(sdxl, "large", **settings, **more, precision="auto", save_every=2)
    assert all(value.isfinite().all() for value in result.values())


def test_a_unet_trains_along_with_an_embedding_and_class_images(models):
    given = {"masks": [torch.rand(1, 64, 64)], "class_images": pictures(2, seed=8), "train_embedding": True}
    more = {"alignment_mean": 2.0, "caption_template": "a {} teddy bear", "augmentation": 2, "preview_every": 2}
    result = trained(models, "along", form="LoRA", **given, **more, optimizer="Adafactor", max_gradient_norm=1.0)
    assert all(value.isfinite().all() for value in result.values())


@pytest.mark.usefixtures("no_last_preview")
def test_a_t_lora_draws_on_the_card_and_leaves_it(models):
    from core_personalization.nodes.host.models.denoiser import added_to

    given = {"form": "T-LoRA", "scope": "attention layers", "learning_rate": 1e-2, "name": "drawn"}
    with torch.inference_mode():
        model = execute(models, **given)[0]
    drawn, base = (sample(each, models[1], "a dog") for each in (model, models[0]))
    assert drawn.isfinite().all() and not torch.allclose(drawn, base, atol=1e-3)
    (lora,) = added_to(model)
    assert {matrix.device.type for pair in lora._matrices.values() for matrix in pair} == {"cpu"}


@pytest.mark.usefixtures("no_last_preview")
def test_updates_within_the_backward_pass_learn_the_same(models):
    plain, fused = (
        trained(models, "fused", form="full weights", scope="whole U-Net", precision="bf16", fused_backward=on)
        for on in (False, True)
    )
    assert all(torch.equal(plain[name], fused[name]) for name in plain)


@pytest.mark.parametrize("settings", [{"method": "CoRe"}, {"form": "full weights"}], ids=["embedding", "U-Net"])
def test_a_preview_is_drawn_while_training(models, settings, monkeypatch):
    from core_personalization.nodes.embedding import train_embedding
    from core_personalization.nodes.finetune import unet_identity_finetune
    from core_personalization.nodes.host.run_control import RunProgress
    from core_personalization.nodes.training.session import Session

    shown, drawn = [], []
    update, draw = RunProgress.update, Session._draw

    def see(progress, step, text, preview):
        shown.append(preview)
        update(progress, step, text, preview)

    def note_and_draw(session, step):
        drawn.append(step)
        return draw(session, step)

    monkeypatch.setattr(RunProgress, "update", see)
    monkeypatch.setattr(Session, "_draw", note_and_draw)
    for node in (train_embedding, unet_identity_finetune):  # pictures are for who looks at a node
        monkeypatch.setattr(node, "node_id_of", lambda _: "7")
    trained(models, "watched", **settings, preview_every=2)
    assert len(shown) == 2 and drawn == [2]
    assert shown[1].device.type == "cpu" and shown[1].isfinite().all()
