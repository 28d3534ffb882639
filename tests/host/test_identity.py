"""A model is the same in every number format, and another one after training."""

from __future__ import annotations

import pytest
import torch
from families.build import FAMILIES, state_dict
from families.embedding import execute
from families.load import text_encoder_options
from families.stopping import cancel_after

FORMATS = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]


class Module(torch.nn.Module):
    """Biases and norms as trained ones are: from a thousandth to a few units."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for number, scale in enumerate((1.0, 0.1, 0.01, 0.002)):
            values = (scale * torch.randn(500, generator=generator)).half().to(dtype)
            self.register_parameter(f"bias{number}", torch.nn.Parameter(values, requires_grad=False))
        self.register_parameter("norm", torch.nn.Parameter(torch.ones(500, dtype=dtype), requires_grad=False))


def of(module: torch.nn.Module, *also: str, matrices: bool = False) -> str:
    from core_personalization.nodes.host.models.host_models import fingerprint

    return fingerprint(module, {}, "", *also, matrices=matrices)


@pytest.mark.parametrize("loaded", FORMATS)
@pytest.mark.parametrize("before", FORMATS)
def test_a_model_is_the_same_in_every_number_format(before, loaded):
    from core_personalization.nodes.host.models.host_models import same_model

    assert same_model(of(Module(dtype=before)), of(Module(dtype=loaded)))
    assert same_model(of(Module(dtype=before), "v"), of(Module(dtype=loaded), "v"))
    assert not same_model(of(Module(dtype=before), "v"), of(Module(dtype=loaded), "epsilon"))
    assert not same_model(of(Module(dtype=before)), of(Module(seed=1, dtype=loaded)))


def test_in_one_number_format_the_smallest_change_counts():
    from core_personalization.nodes.host.models.host_models import same_model

    changed = Module()
    changed.bias0[7] *= 1.001
    assert not same_model(of(Module()), of(changed))


def test_a_fine_tune_is_told_apart_in_bf16():
    from core_personalization.nodes.host.models.host_models import same_model

    tuned = Module()
    for parameter in tuned.parameters():
        parameter += 1e-3 * torch.randn(500, generator=torch.Generator().manual_seed(5))
    assert not same_model(of(Module()), of(tuned.bfloat16()))


@pytest.mark.parametrize("loaded", FORMATS)
def test_a_lora_that_was_merged_makes_another_model(loaded):
    from core_personalization.nodes.host.models.host_models import same_model

    def made(change: float, dtype: torch.dtype) -> torch.nn.Module:
        module, generator = Module(dtype=dtype), torch.Generator().manual_seed(3)
        for number in range(30):
            weight, update = torch.randn(2, 40, 40, generator=generator) * torch.tensor([0.05, change])[:, None, None]
            module.register_parameter(f"matrix{number}", torch.nn.Parameter((weight + update).half().to(dtype), False))
        return module

    before, merged = (of(made(change, torch.float16), matrices=True) for change in (0.0, 0.02))
    assert same_model(before, of(made(0.0, loaded), matrices=True))
    assert not same_model(before, merged) and not same_model(merged, of(made(0.0, loaded), matrices=True))
    assert same_model(of(made(0.0, loaded)), of(made(0.02, loaded))), "biases alone do not tell"


def test_what_earlier_versions_wrote_is_known():
    from core_personalization.nodes.host.models.host_models import same_model

    ours = of(Module())
    assert same_model(ours.split()[0], ours)
    assert same_model(ours, ours.split()[0])
    assert not same_model("0" * 64, ours)
    assert not same_model("", ours)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_a_stopped_training_goes_on_with_the_same_checkpoint_in_another_format(sd1, dtype):
    from comfy.sd import load_state_dict_guess_config
    from core_personalization.nodes.host import run_control

    options = text_encoder_options(FAMILIES["sd1"])
    with torch.inference_mode():
        models = load_state_dict_guess_config(
            state_dict("sd1"), te_model_options=options, model_options={"dtype": dtype}
        )[:3]
    assert next(models[0].model.diffusion_model.parameters()).dtype == dtype
    given = {
        "concept_name": f"format{dtype.itemsize}",
        "method": "Textual Inversion",
        "batch_size": 1,
        "overwrite": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        cancel_after(patch, 2)
        with pytest.raises(run_control.Cancelled):
            execute(sd1, **given, steps=3)
    execute(models, **given, steps=3)
    execute(sd1, **given, steps=3)  # loaded
