"""A headless browser for tests, driven over the pipe of the DevTools protocol.

The protocol's own documentation: https://chromedevtools.github.io/devtools-protocol/. Messages are
JSON with a null character behind each; the browser reads file descriptor 3 and writes 4. So no
port, no web socket and no package is needed, only Chromium in any of its forms.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 60.0


def find_browser() -> str | None:
    """The browser that ``EDGETL_TEST_BROWSER`` names, or the first one on the path."""
    named = os.environ.get("EDGETL_TEST_BROWSER")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A running browser; a context manager."""

    def __init__(self, executable: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="edgetl-", ignore_cleanup_errors=True)
        self._log = Path(self._home.name, "log")
        their_in, self._to = os.pipe()
        self._from, their_out = os.pipe()
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-extensions"),
            *("--remote-debugging-pipe", f"--user-data-dir={self._home.name}"),
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ]
        redirect = f'exec "$@" 3</dev/fd/{their_in} 4>/dev/fd/{their_out}'
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", redirect, "sh", executable, *flags],
                pass_fds=(their_in, their_out),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(their_in)
        os.close(their_out)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        os.close(self._to)  # which it takes for the end of the session
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        self._home.cleanup()

    def ask(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method, and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def wait_for(self, event: str, session: str) -> dict[str, Any]:
        """The next event of this name that was not there before."""
        while True:
            answer = self._read()
            if answer.get("method") == event and answer.get("sessionId") == session:
                return answer["params"]

    def _read(self) -> dict[str, Any]:
        """One message; events are kept too."""
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError(f"the browser is silent: {self._log.read_bytes()[-2000:]!r}")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


class Page:
    """A tab that shows one page in one size and colour scheme."""

    def __init__(
        self, browser: Browser, url: str, *, width: int, height: int = 900, scheme: str = "light"
    ) -> None:
        self._browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self._session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        browser.events.clear()
        self.ask("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired", self._session)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of this page."""
        return self._browser.ask(method, session=self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key, such as ``Tab``."""
        codes = {"Tab": 9, "Enter": 13, "ArrowRight": 39}
        for kind in ("rawKeyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=name,
                windowsVirtualKeyCode=codes[name],
            )

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for, pictures inside the page left out."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event["method"] == "Network.requestWillBeSent"
            and not event["params"]["request"]["url"].startswith("data:")
        ]

    @property
    def complaints(self) -> list[str]:
        """What the console says: messages, exceptions, violations of the page's policy."""
        kinds = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
        return [
            json.dumps(event["params"])
            for event in self._browser.events
            if event["method"] in kinds
        ]

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as a PNG file."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
