"""The quality benchmark end to end in a real ComfyUI: every kind of method once, with very few steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from preparation.by_place import ROOT

from lab.quality.protocol import SMOKE, cells

pytestmark = [pytest.mark.host, pytest.mark.long]

BATCH_EQUALS_ONE_BY_ONE = """
import sys, torch
from pathlib import Path
from lab.quality.host import Host
host = Host.mini_world(Path(sys.argv[1]))
texts = [host.encode(text) for text in ("a photo of a dog in the snow", "a painting of a cat")]
both = host.sample(host.model, texts, [5, 6], 3, 3.0)
alone = [host.sample(host.model, [text], [seed], 3, 3.0) for text, seed in zip(texts, (5, 6))]
assert (both - torch.cat(alone)).abs().max() < 1e-3
assert (both[0] - both[1]).abs().max() > 0.1
"""


def python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_one_command_measures_quality_and_does_nothing_twice(comfyui_path: Path, tmp_path: Path):
    places = [f"--{name}={tmp_path / name}" for name in ("folder", "results", "images")]
    command = ["-m", "lab", "quality", "--protocol", "smoke", *places]
    first = python(*command)
    assert first.count("patchwork-dog, biased, seed 0") == len(list(cells(SMOKE)))
    assert "| CoRe fast, test time | 1 | 20 |" in first
    table = (tmp_path / "results" / "smoke.md").read_text("utf-8")
    second = python(*command)
    assert "seed 0" not in second and second.strip() == table.strip()


def test_a_batch_of_prompts_is_drawn_as_one_by_one(comfyui_path: Path, tmp_path: Path):
    python("-c", BATCH_EQUALS_ONE_BY_ONE, str(tmp_path))


LAYERS_LEFT_OUT_CHANGE_NOTHING = """
import sys, torch
from pathlib import Path
from lab.quality.host import Host
from lab.world.embedded import expand
from lab.world.sampler import HostSampler
folder, text = Path(sys.argv[1]), "a photo of a dog in the snow"
whole = HostSampler(expand(folder / "mini_world.safetensors"), folder / "comfyui").encode(text)
assert torch.equal(whole[0][0], Host.mini_world(folder).encode(text)[0][0])
"""


def test_the_text_encoder_without_its_empty_layers_says_the_same(comfyui_path: Path, tmp_path: Path):
    python("-c", LAYERS_LEFT_OUT_CHANGE_NOTHING, str(tmp_path))


TIMES_OF_FEW_STEPS = """
import sys
from dataclasses import replace
from pathlib import Path
from lab.quality import times
times.PROTOCOL = replace(times.PROTOCOL, sampling_steps=1)
times.RUNS = {(times.CORE, times.CONSTANT): (1, 2), (times.FAST, times.COSINE): (1, 2)}
for _ in range(2):
    times.run(Path(sys.argv[1]), Path(sys.argv[2]), ["striped-cat"])
"""


def test_time_to_quality_is_measured_once(comfyui_path: Path, tmp_path: Path):
    results = tmp_path / "results"
    results.mkdir()
    first, _, second = python("-c", TIMES_OF_FEW_STEPS, str(tmp_path), str(results)).strip().partition("\n\n")
    assert first == second and first.count("striped-cat") == 0 and "| CoRe fast | warm-up, cosine | 1 |" in first
    rows = (results / "times.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 4
