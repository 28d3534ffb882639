"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os

import pytest
import torch
from core_personalization.nodes.files import safe_files

TENSORS = {
    "a": torch.randn(3, 4),
    "half": torch.randn(2).half(),
    "count": torch.tensor(7),
    "B": torch.randn(4, 3).T,
    "marker": torch.zeros(0),
}


@pytest.fixture
def files():
    return safe_files


def test_what_is_written_is_read_back_with_its_metadata(files, tmp_path):
    files.write(tmp_path / "x.safetensors", TENSORS, {"card": "λ"}, overwrite=False)
    tensors, metadata = files.read(tmp_path / "x.safetensors")
    assert metadata == {"card": "λ"}
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_an_existing_file_stays_unless_it_may_be_overwritten(files, tmp_path):
    path = tmp_path / "x.safetensors"
    files.write(path, TENSORS, {}, overwrite=False)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite"):
        files.write(path, {"other": torch.zeros(1)}, {}, overwrite=False)
    assert path.read_bytes() == before
    files.write(path, {"other": torch.zeros(1)}, {}, overwrite=True)
    assert path.read_bytes() != before


def test_a_drive_that_changes_no_permissions_takes_files(files, tmp_path, monkeypatch):
    """As a share that is mounted for all, where only its owner may."""

    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.chmod", refused)
    files.write(tmp_path / "x.safetensors", TENSORS, {}, overwrite=False)
    assert files.read(tmp_path / "x.safetensors")[0].keys() == TENSORS.keys()


@pytest.mark.parametrize("step", ["save_file", "_flush", "same_tensors"])
def test_a_failure_on_the_way_leaves_nothing_half_written(files, tmp_path, monkeypatch, step):
    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, step, fails)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "x.safetensors", TENSORS, {}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_returns_other_bits_is_noticed(files, tmp_path, monkeypatch):
    def flips_a_bit(path):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(files, "_flush", flips_a_bit)
    with pytest.raises(OSError, match="differs from what was written"):
        files.write(tmp_path / "x.safetensors", TENSORS, {}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_written_as_it_is(files, tmp_path):
    files.write(tmp_path / "x.safetensors", {"a": torch.tensor([float("nan")])}, {}, overwrite=False)


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX")
def test_others_may_read_what_the_user_lets_them(files, tmp_path):
    files.write(tmp_path / "x.safetensors", TENSORS, {}, overwrite=False)
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o044 == (tmp_path / "plain").stat().st_mode & 0o044


@pytest.mark.parametrize("name", ["my-cat", "cat_2", "Käthe", "v1.5", "a" * 100])
def test_plain_names_are_taken(files, name):
    files.validate_name("concept_name", name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", "C:x", "\\\\host\\x", "two words", "a,b", "a<b", "a[b", "a(b)",
     "a:b", "x\n", "x\0", "~", "~/x", "C:\\x", "//host/x", "a/../b", "e\u0301vil", "\u202evil", "<b>", "NUL",
     "com1.txt", "dot.", ".hidden", "-dash", "a" * 101, "狗" * 61, "😀"],
)  # fmt: skip
def test_other_names_are_refused_with_a_remedy(files, name):
    with pytest.raises(ValueError, match=r"concept_name: .* for example 'my-cat'"):
        files.validate_name("concept_name", name)


def test_the_hash_is_that_of_the_tensor_bytes_in_the_file(files, tmp_path):
    path = tmp_path / "x.safetensors"
    files.write(path, TENSORS, {"some": "metadata"}, overwrite=False)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert files.tensor_hash(TENSORS) == "0x" + hashlib.sha256(content[start:]).hexdigest()


def test_a_text_is_written_byte_for_byte_over_none_unasked(files, tmp_path):
    path = tmp_path / "scores.csv"
    files.write_text(path, "score,mean\nλ,1\n", overwrite=False)
    assert path.read_bytes() == "score,mean\nλ,1\n".encode()
    with pytest.raises(FileExistsError, match="overwrite"):
        files.write_text(path, "other", overwrite=False)
    assert path.read_bytes() == "score,mean\nλ,1\n".encode()
    files.write_text(path, "other", overwrite=True)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("scores.csv", "other")]
