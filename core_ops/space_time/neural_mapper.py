"""NeTI (Alaluf et al. 2023, arXiv 2305.15391): a small network of timestep and layer gives the embedding, and what
bypasses the text encoder. Its layers and starting values are those of the authors' program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..conditioning import Embedding
from .space_time_embedding import PREFIX, SpaceTimeEmbedding, SpaceTimeVectors

FREQUENCIES, TIME_SIGMA, LAYER_SIGMA = 1024, 0.03, 2.0
"""Of the Fourier features: how many, and how far apart timesteps and layers are told."""
ANCHORS, TIMESTEPS, WIDTH = 10, 1000, 128
"""The first layer begins with the features of so many timesteps in every block. Width of the others."""
NESTED_DROPOUT = 0.5
"""How often a random tail of the last hidden layer is left out."""
BYPASS_SCALE = 0.2

_NETWORK, _LENGTH = f"{PREFIX}network.", f"{PREFIX}length."


class NeuralMapper(SpaceTimeEmbedding):
    """lengths: per text encoder, [V]: norm of what it gives, v and bypass of a vector together."""

    timed = True

    def __init__(self, lengths: Mapping[str, Tensor], widths: Mapping[str, int], layers: int, seed: int = 0) -> None:
        self.lengths, self.widths, self._layers = dict(lengths), dict(widths), layers
        self._count = next(iter(lengths.values())).shape[0]
        outputs = 2 * self._count * sum(widths.values())
        device = next(iter(lengths.values())).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = MapperNetwork(layers, outputs).to(device)

    @classmethod
    def starting_from(cls, initial: Embedding, layers: int, seed: int) -> NeuralMapper:
        """initial: per encoder [V, width], whose norms it takes."""
        lengths = {name: v.detach().norm(dim=-1).float() for name, v in initial.items()}
        return cls(lengths, {name: v.shape[-1] for name, v in initial.items()}, layers, seed)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], widths: Mapping[str, int]) -> NeuralMapper:
        """Of what `tensors` gave; raises KeyError or RuntimeError where they are others."""
        own = {name.removeprefix(_NETWORK): each for name, each in tensors.items() if name.startswith(_NETWORK)}
        lengths = {name: tensors[f"{_LENGTH}{name}"] for name in widths}
        mapper = cls(lengths, widths, layers=len(own["layers.0.weight"]) // ANCHORS)
        mapper.network.load_state_dict(own)
        return mapper

    @property
    def layers(self) -> int:
        return self._layers

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.network.parameters())

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Mean of v over the blocks and over timesteps that are evenly apart."""
        t = torch.arange(0, TIMESTEPS, TIMESTEPS // ANCHORS, device=self.parameters[0].device)
        return {name: v.mean((0, 1)) for name, v in self.at(t).v.items()}

    def at(self, t: Tensor, random: torch.Generator | None = None) -> SpaceTimeVectors:
        """random: for nested dropout."""
        positions = torch.cartesian_prod(t.float(), torch.arange(self.layers, device=t.device).float())
        hidden = self.network.hidden(positions)
        if random is not None:
            hidden = hidden * self._kept(len(t), random).to(hidden)
        outputs = rearrange(self.network.output(hidden), "(B L) (V width) -> B L V width", L=self.layers, V=self._count)
        v, bypass = dict[str, Tensor](), dict[str, Tensor]()
        for (name, width), both in zip(
            self.widths.items(), outputs.split([2 * width for width in self.widths.values()], dim=-1), strict=True
        ):
            scaled = self.lengths[name].unsqueeze(-1).to(both) * normalize(both, dim=-1)
            v[name], bypass[name] = scaled.split(width, dim=-1)
        return SpaceTimeVectors(v, bypass)

    def _kept(self, batch: int, random: torch.Generator) -> Tensor:
        """Which hidden values stay, [B·L, WIDTH]: whether a block drops any is drawn for the batch, where for each."""
        dropping = torch.rand(self.layers, generator=random) < NESTED_DROPOUT
        first = torch.randint(WIDTH, (batch, self.layers), generator=random)
        first = torch.where(dropping, first, WIDTH)
        return (torch.arange(WIDTH) < first.unsqueeze(-1)).flatten(0, 1)

    def tensors(self) -> dict[str, Tensor]:
        network = {f"{_NETWORK}{name}": each for name, each in self.network.state_dict().items()}
        lengths = {f"{_LENGTH}{name}": each for name, each in self.lengths.items()}
        return {name: each.detach().cpu().clone() for name, each in {**network, **lengths}.items()}


class MapperNetwork(nn.Module):
    """(t, l) [n, 2] → hidden [n, WIDTH] → outputs."""

    def __init__(self, layers: int, outputs: int) -> None:
        super().__init__()
        sigmas = torch.tensor([TIME_SIGMA, LAYER_SIGMA])
        self.register_buffer("frequencies", torch.randn(FREQUENCIES, 2) * sigmas)
        anchors = torch.cartesian_prod(
            torch.arange(0, TIMESTEPS, TIMESTEPS // ANCHORS).float(), torch.arange(layers).float()
        )
        first = nn.Linear(2 * FREQUENCIES, len(anchors))
        first.weight.data = self.features(anchors)
        self.layers = nn.Sequential(
            first,
            *(nn.Linear(len(anchors), WIDTH), nn.LayerNorm(WIDTH), nn.LeakyReLU()),
            *(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.LeakyReLU()),
        )
        self.output = nn.Linear(WIDTH, outputs)

    def features(self, positions: Tensor) -> Tensor:
        """Of (t, l) [n, 2]: [n, 2·FREQUENCIES], of norm 1."""
        angles = positions @ self.frequencies.T
        return torch.cat([angles.sin(), angles.cos()], dim=-1) / math.sqrt(FREQUENCIES)

    def hidden(self, positions: Tensor) -> Tensor:
        return self.layers(self.features(positions))


def with_bypass(hidden: Tensor, bypass: Tensor, slots: Tensor) -> Tensor:
    """The text encoder's state [R, N, width] before its last norm, with the bypass where the concept stands.

    bypass: [S, width]; slots: [S, 2], row and position of each. h ← h + 0.2 · ‖h‖ · b/‖b‖.
    """
    rows, positions = slots.unbind(-1)
    state = hidden[rows, positions]
    added = BYPASS_SCALE * state.norm(dim=-1, keepdim=True) * normalize(bypass.to(state), dim=-1)
    return hidden.index_put((rows, positions), state + added)
