"""What is shown of a training: phases, the steady loss, the chart, previews."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from core_personalization.core_ops.training.training_loop import TrainingLoop
from families import embedding, finetuning

WIDTH, PANEL = 800, 360
SHORT = {"method": "Textual Inversion", "batch_size": 1, "start": "anew"}


def train(models: Any, **given: Any) -> tuple[Any, ...]:
    return embedding.execute(models, **{"concept_name": "shown", **SHORT, **given})


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of text on a node, in their order."""
    from core_personalization.nodes.embedding import embedding_training, train_embedding
    from core_personalization.nodes.host import run_control
    from core_personalization.nodes.training import session

    lines: list[str] = []
    for module in (run_control, train_embedding, embedding_training, session):
        monkeypatch.setattr(module, "show_text", lambda text, node_id: lines.append(text))
    return lines


def test_looking_at_a_default_run_takes_a_tenth_of_its_passes_at_most():
    """Of the fastest method, whose steps are one pass a picture; passes without a gradient count half."""
    from core_personalization.core_ops.training.steady_loss import PASSES, SteadyPlan
    from core_personalization.nodes.embedding.embedding_settings import EmbeddingSettings
    from core_personalization.nodes.training.concept_preview import PREVIEW_TEMPLATES

    default = EmbeddingSettings()
    training = PASSES * default.steps * default.batch_size
    previews = math.ceil(default.steps / default.preview_every)
    drawn = previews * len(PREVIEW_TEMPLATES) * default.preview_steps * 2  # with and without the prompt
    plan = SteadyPlan.within(default.steps, default.batch_size)
    measured = math.ceil(default.steps / plan.every) * plan.samples
    assert drawn + measured <= 0.1 * training


def test_every_phase_is_said_and_steps_in_one_short_line(sd1, said):
    train(sd1, steps=2, preview_every=1)
    order = ["Reading the pictures", "Measuring memory", "The training needs", "Copying the model", "step 1/2"]
    places = [next(index for index, line in enumerate(said) if line.startswith(start)) for start in order]
    assert places == sorted(places)
    assert "step 1/2 · drawing the preview" in said
    (line,) = [line for line in said if line.startswith("step 1/2") and "left" in line]
    assert line.count("·") == 2 and "s left · loss " in line and len(line) < 50


def test_a_name_that_is_no_text_is_shown_all_the_same(monkeypatch):
    from core_personalization.nodes.host.run_control import PromptServer, show_text

    sent = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append(text.encode("utf-8")))
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    show_text(os.fsdecode(b"f\xfcr.png"), "1")
    assert sent == [rb"f\udcfcr.png"]


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (59.9, "60 s"), (130, "2 min"), (4000, "1 h 07 min")])
def test_time_is_said_in_its_largest_unit(seconds, text):
    from core_personalization.nodes.host.run_control import about

    assert about(seconds) == text


def test_one_step_has_a_chart_and_a_steady_loss(sd1):
    _, _, losses, preview, chart, _ = train(sd1, steps=1)
    assert len(losses["steady_loss"]) == 2
    assert chart.shape == (1, PANEL, WIDTH, 3)
    assert chart.std() > 0.05, "there is something on it"
    assert preview.shape == (1, 64, 128, 3), "without previews, the pictures"


def test_a_training_on_regularizers_has_a_panel_for_them(sd1):
    chart = train(sd1, method="CoRe", steps=2)[4]
    assert chart.shape[1] == 2 * PANEL


def test_a_chart_is_drawn_of_any_curves():
    from core_personalization.nodes.training import loss_chart

    odd = {"steady_loss": [1.0], "diffusion": [float("nan")], "context_embedding": [0.0]}
    for curves in ({}, {"loss": [1.0]}, odd):
        assert loss_chart.loss_chart(curves, [0] * len(curves.get("steady_loss", [])), 1).isfinite().all()


def test_a_thinned_curve_is_smoothed_over_the_whole_training():
    from core_personalization.nodes.training import loss_chart

    x, y = loss_chart._smoothed([1.0] * 50, 300)
    assert (x[0], x[-1]) == (1, 300) and y == pytest.approx([1.0] * 50)
    assert loss_chart._smoothed([0.0, 2.0] * 100, 200)[1][50:150] == pytest.approx([1.0] * 100, abs=0.15)


def test_without_matplotlib_a_training_ends_all_the_same(sd1, monkeypatch):
    from core_personalization.nodes.training import loss_chart

    def missing(*_: Any) -> None:
        raise RuntimeError("matplotlib is not installed")

    monkeypatch.setattr(loss_chart, "new_figure", missing)
    assert train(sd1, steps=1)[4].min() == 1


def drawn_prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Per preview: how many prompts, and the side of its latents."""
    from core_personalization.nodes.training import concept_preview

    sample, seen = concept_preview.ddim_sample, []

    def noted(*args: Any, **more: Any) -> Any:
        seen.append((more["noise"].shape[-1], more["config"]))
        return sample(*args, **more)

    monkeypatch.setattr(concept_preview, "ddim_sample", noted)
    return seen


def test_previews_of_ones_own(sd1, embeddings, monkeypatch):
    from core_personalization.core_ops.diffusion_process import DDIMConfig
    from core_personalization.nodes.training import concept_preview

    seen = drawn_prompts(monkeypatch)
    monkeypatch.setattr(concept_preview, "DDIMConfig", DDIMConfig)
    given = {"preview_prompts": "a {} on the moon\n\n{}", "preview_steps": 1, "preview_guidance": 2.0}
    preview = train(sd1, steps=2, preview_every=1, preview_size=32, **given)[3]
    assert preview.shape == (1, 64, 64, 3), "reference and two pictures, in two rows"
    assert seen == [(4, DDIMConfig(1, 2.0))] * 4, "none is drawn twice"
    assert {file.name for file in (embeddings / "shown-steps").glob("*.jpg")} >= {"shown-step1.jpg", "shown-step2.jpg"}
    assert (embeddings / "shown.preview.jpg").is_file()
    first = preview[:, 32:, :32]
    negative = train(sd1, steps=2, preview_every=2, preview_size=32, preview_negative="a dog", **given)[3]
    assert torch.equal(negative[:, :32, :32], preview[:, :32, :32]), "the reference"
    assert not torch.equal(negative[:, 32:, :32], first)


def test_no_preview_means_none(sd1, monkeypatch, embeddings):
    seen = drawn_prompts(monkeypatch)
    train(sd1, steps=2, concept_name="unseen")
    assert seen == [] and not (embeddings / "unseen.preview.jpg").exists()


def test_measuring_changes_nothing_that_is_learned(sd1, monkeypatch):
    from core_personalization.core_ops.training.steady_loss import SteadyLoss

    measured = train(sd1, steps=3)[0].vectors["clip_l"]
    monkeypatch.setattr(SteadyLoss, "__call__", lambda loss: 1.0)
    assert torch.equal(train(sd1, steps=3)[0].vectors["clip_l"], measured)


def noised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures a training draws from."""
    step, counts = TrainingLoop._train_one_step, []

    def noted(loop: TrainingLoop) -> Any:
        counts.append(len(loop.recipe.problem.latents.latents))
        return step(loop)

    monkeypatch.setattr(TrainingLoop, "_train_one_step", noted)
    return counts


@pytest.mark.parametrize(("pictures", "trained"), [(4, 4), (5, 4), (6, 5)])
def test_a_held_out_picture_is_not_trained_and_measured(sd1, monkeypatch, pictures, trained):
    counts = noised(monkeypatch)
    images = embedding.pictures(pictures)
    first = train(sd1, images=images, steps=1, batch_size=6, hold_out=True)
    assert set(counts) == {trained}
    images[-1] = embedding.pictures(1, seed=77)[0]
    other = train(sd1, images=images, steps=1, batch_size=6, hold_out=True)
    same = torch.equal(first[0].vectors["clip_l"], other[0].vectors["clip_l"])
    assert same == (pictures > 4)
    assert first[2]["steady_loss"][0] != other[2]["steady_loss"][0]


def test_a_finetune_measures_and_holds_out_too(sd1, monkeypatch):
    counts = noised(monkeypatch)
    _, _, losses, _, chart, *_ = finetuning.execute(
        sd1, images=finetuning.pictures(5), name="held", form="LoRA", hold_out=True, learning_rate=1e-2, start="anew"
    )
    assert set(counts) == {4} and chart.shape[-1] == 3
    assert losses["steady_loss"][0] != losses["steady_loss"][-1]


def test_the_picture_of_a_training_that_was_replaced_goes_with_it(sd1, embeddings):
    train(sd1, concept_name="replaced", preview_every=1, steps=1)
    assert (embeddings / "replaced.preview.jpg").is_file()
    train(sd1, concept_name="replaced", preview_every=0, steps=1, seed=3, overwrite=True)
    assert not (embeddings / "replaced.preview.jpg").exists()


def test_what_a_preview_loads_leaves_where_the_training_needs_its_room(sd1, embeddings, monkeypatch):
    from core_personalization.nodes.training import memory_plan

    asked: list[str] = []
    monkeypatch.setattr(memory_plan, "free_for", lambda plan, device: asked.append("room"))
    from core_personalization.nodes.training.concept_preview import ConceptPreview

    drawn = ConceptPreview.draw
    monkeypatch.setattr(ConceptPreview, "draw", lambda *given: asked.append("preview") or drawn(*given))
    train(sd1, concept_name="roomy", preview_every=1, steps=2)
    assert asked == ["room", "preview", "room", "preview", "room"]


def test_every_number_format_has_a_digest():
    from core_personalization.nodes.training.kept_trainings import digest

    values = torch.tensor([[1.5, 2.0]])
    formats = {dtype: digest(values.to(dtype)) for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    assert len(set(formats.values())) == 3
    assert digest(torch.tensor(1.5)) != digest(torch.tensor(2.5))
