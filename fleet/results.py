"""What is there of a fleet's jobs: how far they are, one table of all scores, one gallery of all pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .out_folder import OutFolder

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif"}
TEMPLATE = Path(__file__).with_name("gallery.html")


def status(folder: Path) -> int:
    """A line for each job of the list that ran last; 1 where any is not done."""
    out = OutFolder(folder)
    states = {job: state_of(out, job) for job in _jobs(out)}
    for job, state in states.items():
        print(f"{job}: {state}")
    done = list(states.values()).count("done")
    print(f"{done} of {len(states)} done")
    return int(done < len(states))


def state_of(out: OutFolder, job: str) -> str:
    """In words."""
    if out.manifest(job):
        return "done"
    if messages := out.messages(job):
        return f"set aside after {len(messages)} tries: {messages[-1]}"
    attempts = out.attempts(job)
    if not attempts:
        return "waiting"
    states = [file for attempt in attempts for file in attempt.glob("output/core_states/*.safetensors")]
    return f"begun{', with a state of its training to go on from' if states else ''}"


def collect(folder: Path, table: Path | None) -> int:
    """Writes both, and says where. Raises ValueError where no job is done, or for another kind of table."""
    out = OutFolder(folder)
    rows = [row_of(manifest) for manifest in out.manifests()]
    if not rows:
        raise ValueError(f"{folder}: no job is done there")
    file = table or folder / "scores.csv"
    if file.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--table {file}: give a name that ends in .csv or .parquet")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    (_write_parquet if file.suffix == ".parquet" else _write_csv)(file, columns, rows)
    gallery = folder / "gallery.html"
    gallery.write_text(_gallery(out), encoding="utf-8")
    print(f"{len(rows)} jobs: {file} and {gallery}")
    return 0


def row_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Job, inputs, scores and times of one that is done."""
    seconds = {f"seconds ({name})": value for name, value in manifest["seconds"].items()}
    device = manifest["versions"]["device"]
    return {"job": manifest["job"], **manifest["inputs"], **manifest["scores"], **seconds, "device": device}


def _jobs(out: OutFolder) -> list[str]:
    """Of the list that ran last, and others that are done."""
    return list(dict.fromkeys([*out.plan(), *(manifest["job"] for manifest in out.manifests())]))


def _write_csv(file: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(file: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(f"--table {file}: Parquet needs pyarrow (pip install pyarrow); or give a .csv") from error
    content = {column: [row.get(column) for row in rows] for column in columns}
    pyarrow.parquet.write_table(pyarrow.table(content), file)


def _gallery(out: OutFolder) -> str:
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(jobs=list(_shown(out)))


def _shown(out: OutFolder) -> Iterator[dict[str, Any]]:
    for manifest in out.manifests():
        files = sorted(file for file in manifest["files"] if Path(file).suffix.lower() in PICTURES)
        yield {**manifest, "pictures": [quote(f"{manifest['job']}/{file}") for file in files]}
