"""Trains the text encoder before the U-Net exists, by regression, and never again.

Trained together with the U-Net it fails within hours: the U-Net learns to ignore it first. Here every position learns
the sum of fixed random codes, one per keyword read so far, scaled to unit size: what the final layer norm gives anyway.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from ...comfyui import comfyui_folder
from ..drawing.captions import KEYWORDS
from ..networks.clip_fill import VOCABULARY, WIDTH
from ..networks.text_encoder import END, POSITIONS, START, TextEncoder
from .precision import autocast
from .schedule import Budget, learning_rate

PEAK_RATE, BATCH = 7e-4, 24


def load_tokenizer() -> CLIPTokenizer:
    """The vocabulary that ComfyUI ships."""
    return CLIPTokenizer.from_pretrained(comfyui_folder() / "comfy" / "sd1_tokenizer")


def word_tokens(tokenizer: CLIPTokenizer, caption: str) -> list[list[int]]:
    """Token ids word by word; CLIP's tokens never span words."""
    return [tokenizer(word, add_special_tokens=False)["input_ids"] for word in caption.split()]


def token_row(words: list[list[int]]) -> list[int]:
    """Start, the words, and ends up to 77, as ComfyUI pads for Stable Diffusion 1.5."""
    ids = [START, *(token for word in words for token in word)][: POSITIONS - 1]
    return ids + [END] * (POSITIONS - len(ids))


class KeywordCodes:
    """What each position should say: codes of the keywords read so far."""

    def __init__(self, tokenizer: CLIPTokenizer, seed: int) -> None:
        self.codes = torch.randn(len(KEYWORDS) + 1, WIDTH, generator=torch.Generator().manual_seed(seed))
        self._keyword_of = {tuple(word_tokens(tokenizer, word)[0]): i for i, word in enumerate(KEYWORDS)}

    def target(self, words: list[list[int]]) -> Tensor:
        """[77, WIDTH]. A keyword is said from its last token on."""
        said = torch.zeros(POSITIONS, len(KEYWORDS) + 1)
        said[:, -1] = 1
        place = 0
        for word in words:
            place += len(word)
            keyword = self._keyword_of.get(tuple(word))
            if keyword is not None and place < POSITIONS:
                said[place:, keyword] = 1
        return (said @ self.codes) * said.sum(dim=1, keepdim=True).rsqrt()


def train_text_encoder(
    tokenizer: CLIPTokenizer, captions: list[str], budget: Budget, device: torch.device, seed: int
) -> TextEncoder:
    torch.manual_seed(seed)
    chance = random.Random(seed)
    split = [word_tokens(tokenizer, caption) for caption in captions]
    known = sorted({START, END, *(token for words in split for word in words for token in word)})
    encoder, codes = TextEncoder(known).to(device), KeywordCodes(tokenizer, seed)
    rest = [p for name, p in encoder.named_parameters() if name != "known_rows"]
    groups = [{"params": [encoder.known_rows], "weight_decay": 0.0, "gain": 2.0}, {"params": rest, "gain": 1.0}]
    optimizer = torch.optim.AdamW(groups, PEAK_RATE, betas=(0.9, 0.98))
    step = 0
    while (progress := budget.progress(step)) < 1:
        batch = [_disturb(chance.choice(split), chance) for _ in range(BATCH)]
        ids = torch.tensor([token_row(words) for words in batch], device=device)
        target = torch.stack([codes.target(words) for words in batch]).to(device)
        with autocast(device):
            output = encoder(ids)
        loss = (output.float() - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["gain"] * learning_rate(PEAK_RATE, step, progress, warm_up=20, constant=0.2)
        optimizer.step()
        step += 1
        if step % 20 == 0:
            budget.report("text", step, loss.item())
    return encoder.eval()


def _disturb(words: list[list[int]], chance: random.Random) -> list[list[int]]:
    """Another order, words left out, and tokens never seen before, so that none of these do harm later."""
    words = [word for word in words if chance.random() < 0.9]
    if chance.random() < 0.5:
        chance.shuffle(words)
    for _ in range(chance.choice((0, 0, 1, 3, 8))):
        words.insert(chance.randint(0, len(words)), [chance.randrange(VOCABULARY - 2)])
    return words


@torch.no_grad()
def encode_captions(encoder: TextEncoder, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """[N, 77, 768] in half precision, on the CPU."""
    device = encoder.known_rows.device
    rows = []
    for start in range(0, len(captions), 50):
        words = [word_tokens(tokenizer, caption) for caption in captions[start : start + 50]]
        ids = torch.tensor([token_row(row) for row in words], device=device)
        with autocast(device):
            rows.append(encoder(ids).half().cpu())
    return torch.cat(rows)
