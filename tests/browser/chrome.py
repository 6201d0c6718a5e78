"""A browser to test with: Chromium, driven over WebDriver, which is JSON over HTTP.

No package for it: what the tests need of the protocol is a dozen calls.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
SECONDS = 15


def missing() -> str:
    """Name what is not installed, or nothing."""
    programs = ("chromium", "chromedriver")
    return ", ".join(name for name in programs if not shutil.which(name))


class BrowserError(Exception):
    """The browser could not do what it was told."""


class GoneError(BrowserError):
    """An element is not there, or not any more."""


class Chrome:
    """One browser with one window and a profile of its own; `close` ends it."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="dj_queue_chrome_")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._address = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}", "--log-level=OFF"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._session = self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the browser and its driver, and remove the profile."""
        if hasattr(self, "_session"):
            self._call("DELETE", "")
        self._driver.terminate()
        self._driver.wait(timeout=30)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        """The address of the page."""
        return self._call("GET", "/url")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript, the body of a function, and give what it returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript that calls its last argument with the result."""
        return self._call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def find_all(self, css: str) -> list[str]:
        """Give what a selector finds."""
        found = self._call("POST", "/elements", {"using": "css selector", "value": css})
        return [each[ELEMENT] for each in found]

    def find(self, css: str, text: str = "") -> str:
        """Give the first element that a selector finds, with this text if one is given."""
        for element in self.find_all(css):
            if not text or self.text(element) == text:
                return element
        raise GoneError(f"nothing is found by {css!r} {text!r} on {self.url}")

    def click(self, css: str, text: str = "") -> None:
        """Click an element as a person does: it must be in sight and uncovered.

        On a page that is just being replaced, on the next one.
        """

        def click() -> bool:
            try:
                self._call("POST", f"/element/{self.find(css, text)}/click", {})
            except GoneError:
                return False
            return True

        self.wait_for(click, f"a click on {css!r} {text!r}")

    def type(self, css: str, text: str) -> None:
        """Type into an element."""
        self._call("POST", f"/element/{self.find(css)}/value", {"text": text})

    def text(self, element: str) -> str:
        """Give the text of an element as it is shown."""
        return self._call("GET", f"/element/{element}/text")

    def texts(self, css: str) -> list[str]:
        """Give the texts of all elements that a selector finds."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", css
        )

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page, narrower than a window can be if need be."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._chromium("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """Prefer a "light" or "dark" colour scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._chromium("Emulation.setEmulatedMedia", features=features)

    def scripts(self, *, enabled: bool) -> None:
        """Switch JavaScript on or off for the pages that are opened from now on."""
        self._chromium("Emulation.setScriptExecutionDisabled", value=not enabled)

    def set_cookie(self, name: str, value: str) -> None:
        """Set a cookie of the site that is open."""
        self._call("POST", "/cookie", {"cookie": {"name": name, "value": value, "path": "/"}})

    def complaints(self) -> list[str]:
        """Give what the console has said since the last call: errors, warnings, violations."""
        found = self._call("POST", "/se/log", {"type": "browser"})
        return [f"{each['level']}: {each['message']}" for each in found]

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Give the condition's value as soon as it is true."""
        deadline = time.monotonic() + SECONDS
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise BrowserError(f"{what} did not happen within {SECONDS} s on {self.url}")
            time.sleep(0.05)

    def _start(self) -> str:
        options = {"args": [*ARGUMENTS, f"--user-data-dir={self._profile}"]}
        if binary := shutil.which("chromium"):
            options["binary"] = binary
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 30_000, "pageLoad": 60_000},
        }
        deadline = time.monotonic() + 30
        while True:
            try:
                begun = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            except URLError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return str(begun["sessionId"])

    def _chromium(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._send(method, f"/session/{self._session}{path}", body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._address + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urlopen(request, timeout=90) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            said = json.load(error)["value"]
            kind = GoneError if said["error"] == "stale element reference" else BrowserError
            raise kind(f"{said['error']}: {said['message'].splitlines()[0]}") from None
