"""The folder that a fleet fills: whole jobs, each once; and what an unfinished one hands on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fleet import results
from fleet.out_folder import CARRIED, OutFolder

DIGEST, OTHER = "a" * 64, "b" * 64


def manifest(job: str, **more: Any) -> dict[str, Any]:
    return {
        "job": job,
        "inputs": {"Train.steps": 3},
        "digest": DIGEST,
        "files": {"output/one picture.png": "0", "embeddings/my-dog.safetensors": "1"},
        "scores": {"my-dog.dino": 0.5},
        "seconds": {"comfyui": 1.0, "all": 2.0},
        "versions": {"device": "cpu"},
        **more,
    }


@pytest.fixture
def out(tmp_path: Path) -> OutFolder:
    return OutFolder(tmp_path)


def finished(out: OutFolder, job: str, **more: Any) -> Path:
    attempt = out.claim(job, DIGEST)
    (attempt / "output" / "one picture.png").write_bytes(b"picture")
    out.finish(job, attempt, manifest(job, **more))
    return out.path / job


def test_a_finished_job_appears_whole(out):
    attempt = out.claim("dog", DIGEST)
    (attempt / "output" / "picture.png").write_bytes(b"picture")
    assert out.manifest("dog") is None and not (out.path / "dog").exists()
    out.finish("dog", attempt, manifest("dog"))
    assert sorted(file.name for file in (out.path / "dog").rglob("*")) == ["manifest.json", "output", "picture.png"]
    assert out.attempts("dog") == [] and out.manifest("dog") == manifest("dog")


def test_what_was_trained_is_handed_on_and_the_rest_is_made_anew(out):
    first = out.claim("dog", DIGEST)
    for place in CARRIED:
        (first / place / "kept.safetensors").write_bytes(b"kept")
        (first / place / ".core-00-1-aa.tmp").mkdir()
    (first / "output" / "picture.png").write_bytes(b"of a job that was killed")
    (first / "output" / "scorecards").mkdir()
    second = out.claim("dog", DIGEST)
    assert not first.exists() and out.attempts("dog") == [second]
    assert {file.relative_to(second).as_posix() for file in second.rglob("*") if file.is_file()} == {
        f"{place}/kept.safetensors" for place in CARRIED
    }
    assert not list(second.rglob(".core-*"))


def test_a_worker_that_was_thought_dead_can_write_and_finish_nothing(out, tmp_path):
    thought_dead = out.claim("dog", DIGEST)
    link = tmp_path / "link"
    link.symlink_to(thought_dead / "output", target_is_directory=True)
    mine = out.claim("dog", DIGEST)
    with pytest.raises(FileNotFoundError):
        (link / "late.png").write_bytes(b"late")
    with pytest.raises(OSError):
        out.finish("dog", thought_dead, manifest("dog", began="late"))
    out.finish("dog", mine, manifest("dog"))
    with pytest.raises(OSError):
        out.finish("dog", out.claim("dog", DIGEST), manifest("dog", began="twice"))
    assert out.manifest("dog") == manifest("dog")


def test_what_other_inputs_began_is_seen_and_not_handed_on(out):
    first = out.claim("dog", OTHER)
    (first / "embeddings" / "kept.safetensors").write_bytes(b"of other inputs")
    assert out.is_begun_otherwise("dog", DIGEST) and not out.is_begun_otherwise("dog", OTHER)
    second = out.claim("dog", DIGEST)
    assert not list(second.rglob("*.safetensors")) and out.attempts("dog") == [second]


def test_status_says_how_far_each_job_is(out, capsys):
    out.write_plan({"done": {}, "begun": {}, "aside": {}, "waiting": {}})
    finished(out, "done")
    state = out.claim("begun", DIGEST) / "output" / "core_states" / "dog.safetensors"
    state.write_bytes(b"state")
    out.set_aside("aside", ["first", "no such folder"])
    assert results.status(out.path) == 1
    assert capsys.readouterr().out.splitlines() == [
        "done: done",
        "begun: begun, with a state of its training to go on from",
        "aside: set aside after 2 tries: no such folder",
        "waiting: waiting",
        "1 of 4 done",
    ]


def test_collect_writes_a_table_and_a_gallery(out, capsys):
    finished(out, "one")
    finished(out, "two", inputs={"Prompt.text": "<script>"}, scores={})
    assert results.collect(out.path, None) == 0
    with (out.path / "scores.csv").open(encoding="utf-8", newline="") as stream:
        one, two = csv.DictReader(stream)
    assert (one["job"], one["Train.steps"], one["my-dog.dino"], one["seconds (all)"]) == ("one", "3", "0.5", "2.0")
    assert (two["Prompt.text"], two["my-dog.dino"]) == ("<script>", "")
    page = (out.path / "gallery.html").read_text("utf-8")
    assert 'src="one/output/one%20picture.png"' in page and "<script>" not in page and "0.500" in page


def test_a_table_of_another_kind_and_an_empty_folder_are_refused(out):
    with pytest.raises(ValueError, match="no job is done there"):
        results.collect(out.path, None)
    finished(out, "one")
    with pytest.raises(ValueError, match="--table"):
        results.collect(out.path, out.path / "scores.xlsx")


def test_a_manifest_that_is_no_json_is_none(out):
    folder = finished(out, "one")
    (folder / "manifest.json").write_text("{", "utf-8")
    assert out.manifest("one") is None and list(out.manifests()) == []
