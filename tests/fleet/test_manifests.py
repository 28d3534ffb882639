"""What a finished job says of itself."""

from __future__ import annotations

import torch
from driver.client import Execution
from safetensors.torch import save_file

from fleet.jobs import Job
from fleet.manifests import manifest_of

STATS = {"system": {"comfyui_version": "0.30.0", "pytorch_version": "2.11.0"}, "devices": [{"name": "cpu"}]}


def test_it_tells_what_was_learned_by_the_files_own_hashes(tmp_path):
    (tmp_path / "embeddings").mkdir()
    for name, card in (("my-dog", {"modelspec.hash_sha256": "0xabc"}), ("of-another-program", None)):
        save_file({"emb_params": torch.ones(1, 4)}, tmp_path / "embeddings" / f"{name}.safetensors", card)
    job = Job("rex", 2, {"Train.seed": 1}, {"3": {"class_type": "Train", "_meta": {"title": "A word"}}}, {})
    shown = Execution("1", outputs={"3": {"text": ["Done."]}}, messages=[])
    made = manifest_of(job, tmp_path, shown, STATS)
    assert made["learned"] == {"embeddings/my-dog.safetensors": "0xabc"}
    assert set(made["files"]) == {"embeddings/my-dog.safetensors", "embeddings/of-another-program.safetensors"}
    assert made["said"] == {"A word": "Done."} and made["inputs"] == {"Train.seed": 1}
