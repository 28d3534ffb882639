"""What the nodes themselves refuse, asked of a running ComfyUI without running anything."""

from __future__ import annotations

import json

from driver import quick_start

from fleet.job_list import read_list
from fleet.jobs import checked_jobs
from fleet.validation import refusals


def test_the_nodes_say_what_they_refuse_and_nothing_runs(server, tmp_path):
    quick_start.fill_base_folder(server.process.base)
    workflow, schema = quick_start.template(server.client), server.client.get("/object_info")
    before = server.client.get("/history")
    assert refusals(server.process.address, workflow, schema) == []
    rows = [
        {"job": "name", "CoRe Train Embedding.concept_name": "a b"},
        {"job": "weights", "CoRe Train Embedding.caption_template": "no place for it"},
        {"job": "photos", "Your photos.start": "no place either"},
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    jobs, places, faults = checked_jobs(read_list(file), workflow, schema)
    assert faults == []
    for job, row in zip(jobs, rows, strict=True):
        (column,) = row.keys() - {"job"}
        found = refusals(server.process.address, job.workflow, schema)
        place = places[column]
        assert [(node, message.split(":")[0]) for node, message in found] == [(place.node, place.name)], found
    assert server.client.get("/history") == before
    assert server.client.get("/prompt")["exec_info"]["queue_remaining"] == 0
