"""Lists of jobs: what is right becomes jobs, and of what is wrong everything is named, with row and column."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fleet.job_list import Fault, FaultyList, read_list
from fleet.jobs import checked_jobs, keeping_states

SCHEMA: dict[str, Any] = {
    "Train": {
        "output_node": True,
        "input": {
            "required": {
                "model": ["MODEL"],
                "concept_name": ["STRING", {}],
                "steps": ["INT", {"min": 1, "max": 1000}],
                "rate": ["FLOAT", {"min": 0.0, "max": 1.0}],
                "overwrite": ["BOOLEAN", {}],
                "method": ["COMBO", {"options": ["CoRe", "Textual Inversion"]}],
                "save_every": ["INT", {"min": 0}],
            }
        },
    },
    "Load": {"output_node": False, "input": {"required": {"ckpt_name": [["a.safetensors", "b.safetensors"], {}]}}},
    "Text": {"output_node": False, "input": {"required": {"text": ["STRING", {}]}}},
}
OWN = {"concept_name": "x", "steps": 3, "rate": 0.1, "overwrite": False, "method": "CoRe", "save_every": 0}
WORKFLOW: dict[str, Any] = {
    "1": {"class_type": "Load", "inputs": {"ckpt_name": "a.safetensors"}, "_meta": {"title": "Load"}},
    "2": {"class_type": "Train", "inputs": {"model": ["1", 0], **OWN}, "_meta": {"title": "Train it"}},
    "3": {"class_type": "Text", "inputs": {"text": ["2", 0]}, "_meta": {"title": "Prompt"}},
    "4": {"class_type": "Text", "inputs": {"text": "a"}, "_meta": {"title": "Twice"}},
    "5": {"class_type": "Text", "inputs": {"text": "b"}, "_meta": {"title": "Twice"}},
}
GOOD: dict[str, list[str]] = {
    "Train it.concept_name": ["my-dog", "Žofka", "猫"],
    "2.steps": ["1", "1000", " 7 "],
    "Train it.rate": ["0", "1e-3", ".5"],
    "Train it.overwrite": ["true", "No", "1"],
    "Train it.method": ["CoRe", "Textual Inversion"],
    "Load.ckpt_name": ["b.safetensors"],
    "5.text": ['a, "quoted" prompt\nof two lines'],
}
BAD: dict[str, list[str]] = {
    "2.steps": ["0", "1001", "many", "1.5", "nan", "1e3"],
    "Train it.rate": ["-1", "2", "inf", "nan", "x"],
    "Train it.overwrite": ["maybe", "2"],
    "Train it.method": ["Core", "", "textual inversion"][:1],
    "Load.ckpt_name": ["c.safetensors"],
}
BAD_COLUMNS = [
    "steps",
    "Train.steps",
    "Train it.step",
    "Prompt.text",
    "Twice.text",
    "Train it.model",
    "9.text",
    ".",
    "2.",
]
BAD_NAMES = ["", "a/b", "..", "con", ".hidden", "x" * 200, "a b", "end."]


def checked(path: Path) -> tuple[list[Any], list[Fault]]:
    try:
        jobs, _, faults = checked_jobs(read_list(path), WORKFLOW, SCHEMA)
    except FaultyList as error:
        return [], error.faults
    return jobs, faults


def as_csv(header: list[str], rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue()


def test_a_good_list_becomes_jobs(tmp_path):
    file = tmp_path / "jobs.csv"
    file.write_text("\ufeffjob,Train it.steps,4.text,Load.ckpt_name\none,7,,b.safetensors\n\ntwo,,hi,\n", "utf-8")
    (one, two), faults = checked(file)
    assert faults == []
    assert (one.name, one.row, one.inputs) == ("one", 2, {"Train it.steps": 7, "Load.ckpt_name": "b.safetensors"})
    assert (two.row, two.workflow["4"]["inputs"]["text"], two.workflow["2"]["inputs"]["steps"]) == (4, "hi", 3)
    assert WORKFLOW["4"]["inputs"]["text"] == "a", "the workflow itself stays"
    assert one.digest != two.digest


def test_json_lines_have_their_own_types(tmp_path):
    rows = [
        {"job": "one", "2.steps": 7, "2.rate": 1, "2.overwrite": True, "4.text": None},
        {"job": "two", "2.steps": "7"},
        {"job": "three", "4.text": "\ud800"},
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    jobs, faults = checked(file)
    assert jobs[0].inputs == {"2.steps": 7, "2.rate": 1.0, "2.overwrite": True}
    assert [str(fault) for fault in faults] == [
        "row 2, column '2.steps': '7' is no whole number",
        "row 3, column '4.text': '\\ud800' holds half a character",
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("Train it.step", "the node 'Train it' has no input 'step'; did you mean 'steps'?"),
        ("Train.steps", "there is no node 'Train' in the workflow; did you mean 'Train it'?"),
        ("Twice.text", "2 nodes are called 'Twice'; write an id in place of it: 4, 5"),
        ("Prompt.text", "is fed by another node in this workflow"),
        ("Train it.model", "is fed by another node in this workflow"),
        ("steps", "is no input; write the node's title or id, a dot and the input's name"),
    ],
)
def test_an_unknown_column_says_what_is_there(tmp_path, column, message):
    file = tmp_path / "jobs.csv"
    file.write_text(as_csv(["job", column], [["one", "1"]]), encoding="utf-8")
    assert [str(fault) for fault in checked(file)[1]] == [f"row 1, column {column!r}: {message}"]


def test_one_input_by_two_names_is_refused(tmp_path):
    file = tmp_path / "jobs.csv"
    file.write_text("job,2.steps,Train it.steps\none,1,2\n", encoding="utf-8")
    assert [str(fault) for fault in checked(file)[1]] == [
        "row 1, column 'Train it.steps': is the same input as column '2.steps'"
    ]


@pytest.mark.parametrize("seed", range(100))
def test_of_a_bad_list_every_fault_is_named(tmp_path, seed):
    """Faults are planted in a good list; as many are found, each where it was planted."""
    chance = random.Random(seed)
    columns = chance.sample(sorted(GOOD), chance.randint(1, len(GOOD)))
    rows = [[f"job-{n}", *(chance.choice(GOOD[c]) for c in columns)] for n in range(chance.randint(2, 9))]
    header, planted = ["job", *columns], set()
    for _ in range(chance.randint(1, 5)):
        row = chance.randrange(len(rows))
        kind = chance.choice(["value", "column", "name", "twice"])
        if kind == "value" and (wrong := sorted(set(columns) & BAD.keys())):
            column = chance.choice(wrong)
            rows[row][header.index(column)] = chance.choice(BAD[column])
            planted.add((row + 2, column))
        elif kind == "column" and (new := chance.choice(BAD_COLUMNS)) not in header:
            header.append(new)
            for cells in rows:
                cells.append("1")
            planted.add((1, new))
        elif kind == "name":
            rows[row][0] = chance.choice(BAD_NAMES)
        elif kind == "twice":
            rows[row][0] = rows[row - 1][0].upper()
    seen: set[str] = set()
    for number, (name, *_) in enumerate(rows, 2):
        if name in BAD_NAMES or name.casefold() in seen or name.upper() in map(str.upper, BAD_NAMES):
            planted.add((number, "job"))
        else:
            seen.add(name.casefold())
    file = tmp_path / "jobs.csv"
    file.write_text(as_csv(header, rows), encoding="utf-8")
    _, faults = checked(file)
    assert {(fault.row, fault.column) for fault in faults} == planted
    assert len(faults) == len(planted), "each is named once"
    assert bool(faults) == bool(planted)


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_garbage_is_refused_in_words(tmp_path, seed, ending):
    chance = random.Random(seed)
    good = 'job,2.steps\n"one",3\ntwo,"4"\n' if ending == ".csv" else '{"job": "one", "2.steps": 3}\n{"job": "two"}\n'
    content = bytearray(good.encode())
    for _ in range(chance.randint(1, 12)):
        content.insert(chance.randrange(len(content)), chance.choice(b'\x00\xff",\n{}[]:\\\r9e\xe2'))
    file = tmp_path / f"jobs{ending}"
    file.write_bytes(content)
    for fault in checked(file)[1]:
        assert str(fault)


@pytest.mark.parametrize("content", [b"", b"job\n", b"\n\n", b"\xff\xfe", b"job,2.steps\n", b"[1]", b'"never closed'])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_what_holds_no_job_is_refused(tmp_path, content, ending):
    file = tmp_path / f"jobs{ending}"
    file.write_bytes(content)
    assert checked(file)[1]


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FaultyList, match="cannot be read"):
        read_list(tmp_path / "none.csv")


def test_states_are_kept_where_the_workflow_keeps_none():
    changed = keeping_states(WORKFLOW, SCHEMA, 25)
    assert changed["2"]["inputs"]["save_every"] == 25 and WORKFLOW["2"]["inputs"]["save_every"] == 0
    kept = {**WORKFLOW, "2": {**WORKFLOW["2"], "inputs": {**OWN, "save_every": 5}}}
    assert keeping_states(kept, SCHEMA, 25)["2"]["inputs"]["save_every"] == 5
