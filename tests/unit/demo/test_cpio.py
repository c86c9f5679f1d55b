"""The archive writer, joined to a reader of the same form."""

import stat
from collections.abc import Iterator

import pytest

from vde_vmnet.demo import cpio


def read(data: bytes) -> Iterator[tuple[str, int, bytes, tuple[int, int]]]:
    """Path, mode, content and device of each member; the reader's side of the specification."""
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        mode, size, device, name_size = fields[1], fields[6], (fields[9], fields[10]), fields[11]
        name = data[offset + 110 : offset + 110 + name_size]
        assert name.endswith(b"\0")
        start = -(-(offset + 110 + name_size) // 4) * 4
        path = name[:-1].decode()
        if path == "TRAILER!!!":
            assert offset + 110 + name_size <= len(data)
            return
        yield path, mode, data[start : start + size], device
        offset = -(-(start + size) // 4) * 4


@pytest.mark.parametrize("length", range(9))
def test_what_is_written_is_read_for_every_alignment(length: int) -> None:
    entries = [
        cpio.directory("d" * (length + 1)),
        cpio.file("f" * (length + 1), bytes(range(length)), 0o755),
        cpio.symlink("l" * (length + 1), "t" * length),
        cpio.device("c" * (length + 1), 5, 1),
        cpio.file("last", b"x"),
    ]
    members = list(read(cpio.archive(entries)))
    assert [member[0] for member in members] == [entry.path for entry in entries]
    kinds = [stat.S_IFMT(member[1]) for member in members]
    assert kinds == [stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFREG]
    assert members[1][1:3] == (stat.S_IFREG | 0o755, bytes(range(length)))
    assert members[2][2] == b"t" * length
    assert members[3][3] == (5, 1)
    assert members[4][2] == b"x"


def test_equal_input_gives_equal_bytes() -> None:
    entries = [cpio.directory("bin"), cpio.file("bin/sh", b"program", 0o755)]
    assert cpio.archive(entries) == cpio.archive(list(entries))


@pytest.mark.parametrize("path", ["", "/absolute"])
def test_paths_that_would_lie_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot be a member"):
        cpio.archive([cpio.file(path, b"")])


def test_a_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match='"same" cannot be a member'):
        cpio.archive([cpio.file("same", b"1"), cpio.file("same", b"2")])
