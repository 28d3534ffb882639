"""ComfyUI's dynamic VRAM in this process: weights come to the card as they are needed, and are put off it again."""

from __future__ import annotations

import os

import pytest
from fake_gpu import aimdo, events

DYNAMIC_VRAM = "--enable-dynamic-vram"


def switch_on() -> None:
    """As ComfyUI's main.py does, before a model is loaded. The pretended card has an imitation of comfy-aimdo."""
    if events.is_pretended():
        aimdo.imitate()
        return
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher
    from comfy_aimdo import control

    control.init()
    if not control.init_devices(device.index for device in comfy.model_management.get_all_torch_devices()):
        pytest.skip("comfy-aimdo does not work here")
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def is_on() -> bool:
    return DYNAMIC_VRAM in os.environ.get("COMFYUI_OPTIONS", "").split()
