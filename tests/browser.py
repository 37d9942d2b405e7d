"""Debian's Chromium without a window, driven by selenium: what a page shows, what it says, what it asks for."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI is root
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the test's own servers are the whole network
)


class Browser:
    """A window of 1280 by 800 pixels. `open` forgets what the last page said and how it was looked at."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1280, height: int = 800, scheme: str = "light") -> None:
        """Show a page in a window of this size, to somebody who likes a `light` or `dark` scheme."""
        self.driver.get("about:blank")
        self.read_console()
        self.read_requests()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.look(scheme=scheme)
        self.driver.get(url)

    def look(self, *, scheme: str = "light", media: str = "") -> None:
        """See the page in a colour scheme, and as `print` would have it."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def run(self, script: str, *words: object) -> object:
        """What a JavaScript expression gives; `words` are its `arguments`."""
        return self.driver.execute_script(f"return {script}", *words)

    def read_console(self) -> list[str]:
        """Errors and warnings in the console since they were last read; refused requests are among them."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]

    def read_requests(self) -> list[str]:
        """Addresses that were asked for since they were last read; data that lies in the page itself is no request."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Start Chromium on an empty profile.

    Skips the test where it is not installed, or fails it where ALEXNET_REQUIRE_BROWSER says that it must be.
    """
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        refuse = pytest.fail if os.environ.get("ALEXNET_REQUIRE_BROWSER") else pytest.skip
        refuse("Chromium is not installed; on Debian `apt-get install chromium chromium-driver` brings it")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(prefix="alexnet-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={Path(profile)}"):
            options.add_argument(flag)
        chrome = Chrome(options, Service(driver))
        try:
            yield Browser(chrome)
        finally:
            chrome.quit()
