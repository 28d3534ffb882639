"""XTI's and NeTI's embeddings: the network against one written out as the authors' program has it, and its files."""

from __future__ import annotations

import math

import pytest
import torch
from core_ops.toy_models import DOG, LENGTH, WIDTH, ToyTextEncoder, pair
from core_personalization.core_ops.space_time.layer_vectors import LayerVectors
from core_personalization.core_ops.space_time.neural_mapper import NeuralMapper, with_bypass
from core_personalization.core_ops.space_time.reading import read_space_time

START = {"l": torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), "g": torch.ones(2, 10)}
LAYERS, TIMES = 5, [3.0, 500.0, 999.0]


def mapper(seed: int = 0) -> NeuralMapper:
    return NeuralMapper.starting_from(START, LAYERS, seed)


def written_out(weights: dict[str, torch.Tensor], t: float, layer: int, kept: int = 128) -> torch.Tensor:
    """One position through the network, as plain sums: [outputs] before it is normed."""

    def features(t: float, layer: float) -> torch.Tensor:
        angles = [float(w[0]) * t + float(w[1]) * layer for w in weights["frequencies"]]
        both = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        return both / both.norm()

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        scaled = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
        x = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return torch.where(x > 0, x, 0.01 * x)

    x = linear(features(t, layer), "layers.0")
    x = normed(linear(x, "layers.1"), "layers.2")
    x = normed(linear(x, "layers.4"), "layers.5")
    return linear(torch.cat([x[:kept], torch.zeros(128 - kept)]), "output")


def test_the_network_is_the_published_one():
    own = mapper()
    weights = {name.rpartition("network.")[2]: each for name, each in own.tensors().items()}
    found = own.at(torch.tensor(TIMES))
    for b, t in enumerate(TIMES):
        for layer in range(LAYERS):
            outputs = written_out(weights, t, layer).reshape(2, 32)
            for vector in range(2):
                for name, both in zip(START, outputs[vector].split([12, 20]), strict=True):
                    both = both / both.norm() * START[name][vector].norm()
                    expected = both.split(len(both) // 2)
                    for got, wanted in zip((found.v[name], found.bypass[name]), expected, strict=True):
                        torch.testing.assert_close(got[b, layer, vector], wanted, rtol=1e-3, atol=1e-4)


def test_it_begins_with_the_features_of_ten_timesteps_in_every_layer():
    own = mapper()
    first = own.network.layers[0].weight
    anchors = torch.tensor([[t, layer] for t in range(0, 1000, 100) for layer in range(LAYERS)]).float()
    torch.testing.assert_close(first, own.network.features(anchors))
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(10 * LAYERS))


def test_nested_dropout_leaves_out_a_tail_in_about_half_of_the_layers():
    own, t = mapper(), torch.tensor(TIMES)
    kept = torch.stack([own._kept(len(t), torch.Generator().manual_seed(seed)) for seed in range(200)])
    counts = kept.sum(-1)  # [200, B·L]
    assert (kept[..., :-1] >= kept[..., 1:]).all()
    whole = (counts == 128).float().mean()
    assert 0.45 < whole < 0.55
    assert 55 < counts[counts < 128].float().mean() < 72
    one = torch.Generator().manual_seed(1)
    weights = {name.rpartition("network.")[2]: each for name, each in own.tensors().items()}
    found = own.at(t, torch.Generator().manual_seed(1)).v["l"]
    for place, count in enumerate(own._kept(len(t), one).sum(-1).tolist()):
        b, layer = divmod(place, LAYERS)
        both = written_out(weights, TIMES[b], layer, count).reshape(2, 32)[0, :12]
        expected = (both / both.norm() * START["l"][0].norm())[:6]
        torch.testing.assert_close(found[b, layer, 0], expected, rtol=1e-3, atol=1e-4)


def test_a_seed_is_a_network_and_touches_no_other_randomness():
    before = torch.get_rng_state()
    one, same, other = mapper(0), mapper(0), mapper(1)
    assert torch.equal(torch.get_rng_state(), before)
    t = torch.tensor(TIMES)
    assert torch.equal(one.at(t).v["l"], same.at(t).v["l"])
    assert not torch.equal(one.at(t).v["l"], other.at(t).v["l"])


def test_the_bypass_is_a_fifth_of_the_states_norm():
    hidden = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    bypass = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    slots = torch.tensor([[0, 2], [1, 1]])
    moved = with_bypass(hidden, bypass, slots)
    expected = hidden.clone()
    for b, (r, n) in zip(bypass, slots.tolist(), strict=True):
        expected[r, n] += 0.2 * b / b.norm() * hidden[r, n].norm()
    torch.testing.assert_close(moved, expected)


def test_each_layer_reads_its_own_vectors():
    encoder = ToyTextEncoder()
    by_layer = torch.randn(3, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    embedding = LayerVectors({"toy": by_layer})
    rows = [pair([3], [DOG]).concept, pair([DOG, 4], []).concept]
    text = embedding.text(encoder, rows, torch.tensor([4, 8]))
    keys, values = text.by_layer
    assert keys.shape == (2, 3, LENGTH, WIDTH) and torch.equal(keys, values)
    for layer in range(3):
        expected = encoder.encode(rows, {"toy": by_layer[layer]}).context
        assert torch.equal(keys[:, layer], expected)
    assert torch.equal(text.context, encoder.encode(rows, {"toy": by_layer.mean(0)}).context)


def test_several_vectors_stay_in_order():
    encoder = ToyTextEncoder()
    by_layer = torch.randn(3, 2, WIDTH, generator=torch.Generator().manual_seed(0))
    rows = [pair([3], [DOG], vectors=2).concept]
    keys, _ = LayerVectors({"toy": by_layer}).text(encoder, rows, torch.tensor([0])).by_layer
    assert torch.equal(keys[0, 2], encoder.encode(rows, {"toy": by_layer[2]}).context[0])


@pytest.mark.parametrize("made", [LayerVectors.starting_from(START, LAYERS), mapper()])
def test_what_is_read_is_what_was_written(made):
    with torch.no_grad():
        for parameter in made.parameters:
            parameter.add_(torch.randn(parameter.shape))
    read = read_space_time({"clip_l": torch.zeros(2, 6), **made.tensors()}, made.snapshot())
    assert type(read) is type(made) and read.layers == LAYERS
    t = torch.tensor(TIMES)
    for name in START:
        assert torch.equal(read.at(t).v[name], made.at(t).v[name])
    assert read_space_time({"emb_params": torch.zeros(1, 6)}, {"l": torch.zeros(1, 6)}) is None


@pytest.mark.parametrize("made", [LayerVectors.starting_from(START, LAYERS), mapper()])
@pytest.mark.parametrize("harm", ["cut", "left out", "more", "huge", "of another encoder", "of more vectors"])
def test_a_damaged_file_is_refused(made, harm):
    tensors, vectors = made.tensors(), made.snapshot()
    name = next(iter(tensors))
    if harm == "cut":
        tensors[name] = tensors[name][..., :-1]
    elif harm == "left out":
        tensors.pop(name)
    elif harm == "more":
        tensors["space_time.more"] = torch.zeros(1)
    elif harm == "huge":
        tensors[name] = torch.zeros(1, 1).expand(10**6, 6)
    elif harm == "of another encoder":
        vectors = {"h": vectors["l"]}
    else:
        vectors = {name: each.repeat(2, 1) for name, each in vectors.items()}
    with pytest.raises(ValueError, match="damaged"):
        read_space_time(tensors, vectors)
