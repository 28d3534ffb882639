"""CLIP and DINO from folders or ids that transformers knows, held by the host's memory management."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

from ....core_ops.quoting import quoted, shortened
from .module_copy import dtype_for

DINO_TYPES = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")
"""Architectures (transformers' model_type) whose first token is the picture's."""

_UNUSED = ("pooler.", "embeddings.mask_token")
"""Weights that no score uses and that published files may lack."""

_LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError)


@dataclass(frozen=True)
class VisionSource:
    """Where a model comes from. input_name: of the node, for messages. precision: see `module_copy.PRECISIONS`.

    model: a folder, absolute or in ComfyUI's models folder, or an id of the Hugging Face hub.
    """

    input_name: str
    model: str
    allow_downloads: bool = False
    precision: str = "fp32"

    @property
    def location(self) -> str:
        """The folder, where there is one, or else the id."""
        folders = (os.path.expanduser(self.model), os.path.join(folder_paths.models_dir, self.model))
        return next((folder for folder in folders if os.path.isabs(folder) and os.path.isdir(folder)), self.model)

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.location)

    def load_with(self, loader: Any, **options: Any) -> Any:
        """What one of transformers' Auto classes loads from here; code that lies beside a model is never run."""
        local = self.is_folder or not self.allow_downloads
        with _offline() if local else nullcontext():
            return loader.from_pretrained(self.location, local_files_only=local, trust_remote_code=False, **options)


def validate_source(source: VisionSource, model_types: Sequence[str]) -> None:
    """Raises ValueError when the model cannot be found, or is none of these architectures."""
    from transformers import AutoConfig

    try:
        config = source.load_with(AutoConfig)
    except _LOADING_ERRORS as error:
        why = f"{_first_line(error)}; check the id and the network."
        if source.is_folder:
            why = f"{_first_line(error)}; the folder needs a config.json, as save_pretrained writes it."
        elif not source.allow_downloads:
            raise ValueError(
                f"{source.input_name}: {quoted(source.model)} is not on this machine; switch allow_downloads on to "
                "fetch it from Hugging Face, or name a folder (absolute, or inside ComfyUI's models folder)."
            ) from error
        raise ValueError(f"{source.input_name}: {quoted(source.model)} cannot be loaded: {why}") from error
    if config.model_type not in model_types:
        raise ValueError(
            f"{source.input_name}: {quoted(source.model)} is of type {config.model_type!r}; "
            f"give a model of type {' or '.join(model_types)}."
        )


class VisionEncoder:
    """Features of pictures [3, H, W] in 0…1, of any sizes, prepared by the model's own image processor."""

    model_types: tuple[str, ...] = ()

    def __init__(self, source: VisionSource) -> None:
        from transformers import AutoImageProcessor

        self.source = source
        validate_source(source, self.model_types)
        device = comfy.model_management.get_torch_device()
        self._dtype = dtype_for(source.precision, device)
        with _explaining(source):
            self._processor = source.load_with(AutoImageProcessor)
            self._network = _Network(_load_model(source).to(self._dtype))
        offload_device = comfy.model_management.text_encoder_offload_device()
        self._patcher = ModelPatcher(self._network, device, offload_device)

    def pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        """[B, D] in fp32 on the CPU. Raises ValueError when a feature is not finite."""
        eight_bit = [(picture.clamp(0, 1) * 255).round().byte().cpu() for picture in pictures]
        eight_bit = [rearrange(picture, "C H W -> H W C").contiguous().numpy() for picture in eight_bit]
        prepared = self._processor(images=eight_bit, input_data_format="channels_last", return_tensors="pt")
        model = self.load()
        pixels = prepared["pixel_values"].to(self._patcher.load_device, self._dtype)
        return self._finite(self._picture_features(model, pixels))

    def load(self) -> Any:
        """The network on the compute device, where the host may have taken it away since the last call."""
        comfy.model_management.load_models_gpu([self._patcher], force_full_load=True)
        self._network.to(self._patcher.load_device)  # which it has not gone to under --novram
        return self._network.model

    def _picture_features(self, model: Any, pixels: Tensor) -> Tensor:
        raise NotImplementedError

    def _finite(self, features: Tensor) -> Tensor:
        features = features.float().cpu()
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                f"{self.source.input_name}: {quoted(self.source.model)} gives features that are not finite; "
                "set precision to fp32, or take another model."
            )
        return features


class ClipEncoder(VisionEncoder):
    """CLIP's space, in which pictures and texts are compared."""

    model_types = ("clip",)

    def __init__(self, source: VisionSource) -> None:
        from transformers import AutoTokenizer

        super().__init__(source)
        with _explaining(source):
            self._tokenizer = source.load_with(AutoTokenizer)
        config: Any = self._network.model.config
        self._places: int = config.text_config.max_position_embeddings

    def texts(self, texts: Sequence[str]) -> Tensor:
        """[T, D] in fp32 on the CPU; see `is_cut` for long texts."""
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._places, return_tensors="pt"
        )
        model = self.load()
        device = self._patcher.load_device
        features = model.get_text_features(
            input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
        )
        return self._finite(_pooled(features))

    def is_cut(self, text: str) -> bool:
        """Whether the text has more tokens than the model reads."""
        return len(self._tokenizer(text)["input_ids"]) > self._places

    def _picture_features(self, model: Any, pixels: Tensor) -> Tensor:
        return _pooled(model.get_image_features(pixel_values=pixels))


class DinoEncoder(VisionEncoder):
    """DINO's space: the output at the class token, as in DreamBooth's evaluation."""

    model_types = DINO_TYPES

    def _picture_features(self, model: Any, pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).last_hidden_state[:, 0]


class _Network(nn.Module):
    """The host writes attributes on what it holds, some of which transformers' models do not let it write."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def _load_model(source: VisionSource) -> nn.Module:
    """Raises ValueError when the file lacks weights, which transformers would fill with random ones."""
    from transformers import AutoModel
    from transformers.utils import logging

    # transformers warns of the pooling layer that DINO's files do not have and that nothing here uses.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # Weights that are missing are drawn from the global generator before this can refuse them.
        with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
            model, report = source.load_with(AutoModel, use_safetensors=True, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    missing = [name for name in report["missing_keys"] if not name.startswith(_UNUSED)]
    if missing:
        raise ValueError(f"its weights lack {len(missing)} tensors, such as {min(missing)!r}")
    return model.requires_grad_(False).eval()


def _pooled(features: Any) -> Tensor:
    """transformers 5 wraps the features that transformers 4 returned."""
    return features if isinstance(features, Tensor) else features.pooler_output


@contextmanager
def _offline() -> Iterator[None]:
    """Closes the hub's library to the network: even for local files alone it fetches lists of its own (seen in 2.4)."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _explaining(source: VisionSource) -> Iterator[None]:
    """Turns what transformers raises for a model that is found but not whole into an error that says what it needs."""
    try:
        yield
    except _LOADING_ERRORS as error:
        raise ValueError(
            f"{source.input_name}: {quoted(source.model)} cannot be loaded: {_first_line(error)}; it needs "
            "config.json, model.safetensors (no other format), the processor's files and, for CLIP, the tokenizer's."
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says first, for a message."""
    return shortened((str(error).strip().splitlines() or [type(error).__name__])[0].rstrip("."))
