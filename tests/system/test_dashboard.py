"""The dashboard in a real browser, on a real daemon: what it shows, what it can do, and whom it lets in."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.support.browser import Browser, browser, unavailable_reason
from tests.support.daemon import wait_until
from tests.support.observed import observed_network
from vde_vmnet import Plug
from vde_vmnet.control.client import Client

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=unavailable_reason() or "")

ONE, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"


@dataclass
class Shown:
    """A network with two plugs, and the dashboard's address, which nobody has opened."""

    client: Client
    one: Plug
    other: Plug
    address: str
    process: subprocess.Popen[str]

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://").partition("/")[0]

    def talk(self, frames: int, kind: int = 0x88B5) -> None:
        """From one plug to the other, which has said where it is."""
        for _ in range(frames):
            self.one.send(bytes(Ether(dst=OTHER, src=ONE, type=kind) / (b"hello" * 20)))
            assert self.other.receive(timeout=5)

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        """One request of a program that is no browser."""
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request(method, path, headers={key.replace("_", "-"): text for key, text in headers.items()})
        response = connection.getresponse()
        told = response.read().decode(errors="replace")
        connection.close()
        return response.status, told, dict(response.headers)


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Iterator[Shown]:
    options = getattr(request, "param", ())
    with (
        observed_network(*options) as (network, client),
        Plug(network.directory) as one,
        Plug(network.directory) as other,
    ):
        other.send(bytes(Ether(dst=ONE, src=OTHER, type=0x88B5) / (b"here" * 20)))
        with subprocess.Popen(
            [sys.executable, "-m", "vde_vmnet", "dashboard", str(network.directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                match = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
                assert match, f"{line}{process.communicate()[1] if process.poll() is not None else ''}"
                yield Shown(client, one, other, match[0], process)
                process.send_signal(signal.SIGINT)
                assert process.wait(10) in (0, 130)
            finally:
                process.kill()


@pytest.fixture
def page(shown: Shown, tmp_path: Path) -> Iterator[Browser]:
    with browser(str(tmp_path)) as driver:
        driver.get(shown.address)
        shows(driver, "count-ports", "2")
        yield driver
        assert complaints(driver) == []


def complaints(driver: Browser) -> list[str]:
    """What the browser did not like, since the last call."""
    log: list[dict[str, str]] = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def shows(driver: Browser, place: str, text: str) -> None:
    """Wait until it does."""
    WebDriverWait(driver, 15, poll_frequency=0.05).until(
        lambda one: text in one.find_element(By.ID, place).text, f"{text} in {place}"
    )


def press(driver: Browser, *keys: str) -> None:
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def test_a_person_sees_the_segment_and_changes_it_by_keyboard(shown: Shown, page: Browser) -> None:
    shown.talk(50)
    shows(page, "fdb", ONE)
    shows(page, "log", "plugged in")
    shows(page, "picture", "isolated switch")
    ports = page.find_elements(By.CSS_SELECTOR, "#picture [role=button]")
    assert [port.get_attribute("data-port") for port in ports] == ["1", "2"]
    assert (ports[0].get_attribute("aria-label") or "").startswith("Port 1, ")

    # From the top of the page: the link that skips, the filter, the button, then the picture.
    page.find_element(By.TAG_NAME, "body").click()
    for _ in range(12):
        press(page, Keys.TAB)
        if page.switch_to.active_element.get_attribute("data-port") == "1":
            break
    press(page, Keys.ENTER)
    shows(page, "port-title", "PORT 1")
    shows(page, "port-body", ONE)
    shows(page, "port-body", f"pid {os.getpid()}")
    # It is redrawn each second, and what was chosen and has the focus stays so.
    assert page.switch_to.active_element.get_attribute("data-port") == "1"

    page.find_element(By.CSS_SELECTOR, "#port-actions [data-action=down]").send_keys(Keys.ENTER)
    wait_until(lambda: not shown.client.port(1).up, "port 1 is down")
    WebDriverWait(page, 15).until(
        lambda one: (
            "down" in (one.find_element(By.CSS_SELECTOR, '[data-port="1"]').get_attribute("class") or "")
        )
    )
    shown.one.send(bytes(Ether(dst=OTHER, src=ONE, type=0x88B5) / (b"x" * 60)))
    shows(page, "drops", "port_down")
    page.find_element(By.CSS_SELECTOR, "#port-actions [data-action=up]").send_keys(Keys.ENTER)
    wait_until(lambda: shown.client.port(1).up, "port 1 is up")


def test_a_capture_is_started_stopped_and_saved(shown: Shown, page: Browser, tmp_path: Path) -> None:
    page.find_element(By.ID, "filter").send_keys("no such filter", Keys.ENTER)
    shows(page, "trouble", "filter")
    (refused,) = complaints(page)
    assert "400" in refused
    page.find_element(By.ID, "filter").clear()
    page.find_element(By.ID, "filter").send_keys("ether proto 0x88b6")
    page.find_element(By.ID, "capture-button").click()
    shows(page, "capture-button", "Stop capture")
    shown.talk(20, 0x88B5)
    shown.talk(7, 0x88B6)
    page.find_element(By.ID, "capture-button").click()
    # The number alone is shown while it goes on, too.
    shows(page, "capture-state", "Save capture-")
    assert "7 frames" in page.find_element(By.ID, "capture-state").text
    page.find_element(By.CSS_SELECTOR, "#capture-state a").click()
    wait_until(lambda: list(tmp_path.glob("*.pcapng")) != [], "the file is saved")
    (file,) = tmp_path.glob("*.pcapng")
    assert {packet.type for packet in rdpcap(str(file))} == {0x88B6}
    assert len(rdpcap(str(file))) == 7


@pytest.mark.parametrize("shown", [("--backend=user", "--vmnet-gateway=192.168.105.1")], indirect=True)
def test_an_uplink_and_what_it_brings_along(shown: Shown, tmp_path: Path) -> None:
    with browser(str(tmp_path)) as driver:
        driver.get(shown.address)
        shows(driver, "picture", "user · shared")
        above = [port.number for port in shown.client.ports() if port.kind == "uplink"]
        for number in above:
            assert driver.find_element(By.CSS_SELECTOR, f'[data-port="{number}"]').is_displayed()
        driver.find_element(By.CSS_SELECTOR, '[data-port="65535"]').click()
        shows(driver, "port-title", "PORT 65535")
        buttons = driver.find_elements(By.CSS_SELECTOR, "#port-actions button")
        assert [button.text for button in buttons] == ["Take down"]
        assert driver.find_element(By.ID, "trouble").text == ""
        assert complaints(driver) == []


def test_both_colour_schemes(page: Browser) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        grounds.add(page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))
    assert len(grounds) == 2


def test_a_network_that_ends_is_told(shown: Shown, page: Browser) -> None:
    shown.client.shutdown()
    shows(page, "trouble", "No network answers")
    assert all("503" in one for one in complaints(page))


def test_only_the_first_browser_is_let_in(shown: Shown) -> None:
    token = shown.address.partition("127.0.0.1")[2].partition("/")[2]
    assert shown.ask("GET", "/")[0] == 403
    assert shown.ask("GET", f"/{token}x")[0] == 403
    assert shown.ask("GET", f"/{token}", Host="evil.example")[0] == 403
    status, page, headers = shown.ask("GET", f"/{token}")
    assert (status, "<title>vde_vmnet</title>" in page) == (200, True)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert {"HttpOnly", "SameSite=strict"} <= set(headers["set-cookie"].split("; "))
    assert shown.ask("GET", f"/{token}")[0] == 403, "the address is good once"

    cookie = headers["set-cookie"].partition(";")[0]
    assert shown.ask("GET", "/data")[0] == 403
    assert shown.ask("GET", "/static/app.js")[0] == 403
    assert shown.ask("GET", "/data", Cookie=cookie)[0] == 200
    assert shown.ask("GET", "/data", Cookie=f"{cookie}x")[0] == 403
    assert shown.ask("GET", "/data", Cookie=cookie, Host="evil.example")[0] == 403
    assert shown.ask("GET", "/static/..%2f..%2f__init__.py", Cookie=cookie)[0] == 404


def test_changes_come_from_the_page_itself(shown: Shown) -> None:
    token = shown.address.partition("127.0.0.1")[2].partition("/")[2]
    cookie = shown.ask("GET", f"/{token}")[2]["set-cookie"].partition(";")[0]
    for origin in ("http://evil.example", "null", f"https://{shown.host}"):
        assert shown.ask("POST", "/ports/1/down", Cookie=cookie, Origin=origin)[0] == 403
    assert shown.ask("POST", "/ports/1/down", Cookie=cookie)[0] == 403
    assert shown.client.port(1).up
    ours = f"http://{shown.host}"
    assert shown.ask("POST", "/ports/1/explode", Cookie=cookie, Origin=ours)[0] == 404
    status, told, _ = shown.ask("POST", "/ports/9/down", Cookie=cookie, Origin=ours)
    assert (status, "next_step" in told) == (400, True)
    assert shown.ask("POST", "/ports/1/down", Cookie=cookie, Origin=ours)[0] == 200
    assert not shown.client.port(1).up


def test_wrong_usage_and_no_network(tmp_path: Path) -> None:
    def dashboard(*argv: str) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-m", "vde_vmnet", "dashboard", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return ran.returncode, ran.stderr

    assert dashboard("--port=http", str(tmp_path))[0] == 1
    status, said = dashboard(str(tmp_path / "nothing"))
    assert (status, "Name its VDESWITCH" in said) == (3, True)
