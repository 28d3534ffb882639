"""What a clone brings: small files, but for the frozen ones in the lab's folder of assets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from preparation.by_place import ROOT

ASSETS = ROOT / "lab" / "assets"
LARGEST_FILE, LARGEST_CHECKOUT = 300_000, 8_000_000


@pytest.fixture(scope="module")
def sizes() -> dict[Path, int]:
    """Bytes of every tracked file that is not one of the assets."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    if not files:
        pytest.skip("there is no git that knows this repository's files")
    return {file: file.stat().st_size for file in files if file.is_file() and not file.is_relative_to(ASSETS)}


def test_no_file_outside_the_assets_is_large(sizes):
    assert not {str(file): size for file, size in sizes.items() if size > LARGEST_FILE}


def test_a_checkout_without_the_assets_is_small(sizes):
    assert sum(sizes.values()) < LARGEST_CHECKOUT
