import errno
import hashlib
from pathlib import Path

import pytest

from adatom.core.errors import FileAccessError
from adatom.core.files import atomic_write, require_readable, require_writable, sha256_of


def test_readable_file_is_returned(tmp_path: Path):
    file = tmp_path / "a.xyz"
    file.write_text("1")
    assert require_readable(str(file)) == file


def test_missing_file_names_the_nearest(tmp_path: Path):
    (tmp_path / "train.xyz").write_text("1")
    with pytest.raises(FileAccessError, match=r"does not exist; did you mean 'train.xyz'\?"):
        require_readable(tmp_path / "trian.xyz")


def test_empty_file_and_folder_are_refused(tmp_path: Path):
    (tmp_path / "empty").touch()
    with pytest.raises(FileAccessError, match="is empty"):
        require_readable(tmp_path / "empty")
    with pytest.raises(FileAccessError, match="is a folder"):
        require_readable(tmp_path)
    with pytest.raises(FileAccessError, match="is a folder"):
        require_writable(tmp_path)


def test_output_under_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(FileAccessError, match="cannot be written"):
        require_writable(tmp_path / "file" / "x" / "out.xyz")


def test_output_where_the_system_forbids_it():
    if not Path("/proc/self").exists():
        pytest.skip("needs a /proc, where nobody can make files")
    with pytest.raises(FileAccessError, match="/proc"):
        require_writable("/proc/out.xyz")


def test_check_leaves_nothing_behind(tmp_path: Path):
    require_writable(tmp_path / "new" / "out.xyz")
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_at_the_end(tmp_path: Path):
    file = tmp_path / "new" / "out.xyz"
    with atomic_write(file) as part:
        assert part.suffix == ".xyz"
        part.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert list(file.parent.iterdir()) == [file]


def test_atomic_write_keeps_the_old_file_after_an_error(tmp_path: Path):
    file = tmp_path / "out.xyz"
    file.write_text("old")

    def interrupted():
        with atomic_write(file) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic_write_gives_ordinary_permissions(tmp_path: Path):
    with atomic_write(tmp_path / "a") as part:
        part.write_text("x")
        part.chmod(0o600)
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_full_disk_is_a_sentence(tmp_path: Path):
    with pytest.raises(FileAccessError, match="No space left"), atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_written_is_an_error(tmp_path: Path):
    with pytest.raises(FileAccessError, match="Nothing was written"), atomic_write(tmp_path / "a"):
        pass


def test_sha256(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"adatom")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"adatom").hexdigest()
