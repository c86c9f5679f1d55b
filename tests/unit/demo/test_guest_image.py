"""Where the image is kept, and what its absence is called."""

import shutil
from pathlib import Path

import pytest

from vde_vmnet.demo import guest_image
from vde_vmnet.demo.guest import GuestConfig, vde_network
from vde_vmnet.errors import UnavailableError

here = pytest.mark.skipif(guest_image.unavailable_reason() is not None, reason="no kernel or busybox here")


def test_the_cache_is_where_an_unprivileged_qemu_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert guest_image.default_cache() == Path("/var/cache/vde_vmnet")


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [
        ("/somewhere", "/somewhere/vde_vmnet"),
        ("", "/home/me/.cache/vde_vmnet"),
        ("x", "/home/me/.cache/vde_vmnet"),
    ],
)
def test_an_ordinary_user_has_a_cache_of_their_own(
    monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/me")
    assert guest_image.default_cache() == Path(expected)


@here
def test_an_image_is_made_once(tmp_path: Path) -> None:
    first = guest_image.build_image(cache=tmp_path)
    made = first.initramfs.stat()
    assert guest_image.build_image(cache=tmp_path) == first
    assert first.initramfs.stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [first.initramfs]


@here
def test_a_program_more_is_another_image_with_its_libraries(tmp_path: Path) -> None:
    plain = guest_image.build_image(cache=tmp_path)
    program = guest_image.build_image(extras=["ls"], cache=tmp_path)
    assert program.initramfs != plain.initramfs
    assert program.initramfs.stat().st_size > plain.initramfs.stat().st_size + (1 << 20)


@here
def test_a_program_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match='"no-such-program"'):
        guest_image.build_image(extras=["no-such-program"], cache=tmp_path)


def test_what_is_missing_is_one_sentence_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    reason = guest_image.unavailable_reason()
    assert reason is not None
    assert "apt-get install" in reason or "x86-64" in reason


def test_qemu_is_told_to_load_nothing_of_its_own(tmp_path: Path) -> None:
    config = GuestConfig(
        guest_image.GuestImage(Path("/k"), Path("/i")),
        tmp_path,
        vde_network(Path("/run/x.ctl"), "52:54:00:00:00:01"),
    )
    command = config.qemu_command(7, 8)
    assert {"-nodefaults", "-no-user-config"} <= set(command)
    assert "vde,id=net0,sock=/run/x.ctl" in command
    assert "virtio-net-pci,id=net0-card,netdev=net0,mac=52:54:00:00:00:01,romfile=" in command
