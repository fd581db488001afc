"""A headless Chromium for tests of pages; skips where there is none, but not in CI."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import JavascriptException, TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
_NAMES = ("chromium", "chromium-browser", "google-chrome")
T = TypeVar("T")


class Browser:
    """A browser in which one page is open.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Opens a page in a window of that size, as by a reader who prefers those colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.faults()
        self.driver.get(address)

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Waits until the page shows a text."""
        self.wait_until(self.text, lambda shown: text in shown, f"{text!r} on the page", seconds)

    def wait_until(
        self,
        look: Callable[[], T],
        holds: Callable[[T], bool],
        wanted: str,
        seconds: float = 60.0,
    ) -> T:
        """Looks again, as a page draws when it likes, until what is seen holds; returns it."""
        seen: list[T] = []

        def has_come(_: object) -> bool:
            seen[:] = [look()]
            return holds(seen[0])

        wait = WebDriverWait(self.driver, seconds, 0.05, [JavascriptException])
        try:
            wait.until(has_come)
        except TimeoutException:
            last = repr(seen[0])[-2000:] if seen else "nothing"
            pytest.fail(f"after {seconds:g} s there is not {wanted}, but {last}")
        return seen[0]

    def text(self) -> str:
        """All that the page shows."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def run(self, script: str) -> object:
        """What a script returns."""
        return self.driver.execute_script(script)

    def faults(self) -> list[str]:
        """Errors that the page has told the console since the last call."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def photograph(self, path: Path, whole: bool = True) -> None:
        """Writes a picture of the window, or of the whole page."""
        if whole:
            height = self.run("return document.documentElement.scrollHeight")
            size = {"width": self.run("return innerWidth"), "height": height}
            size |= {"deviceScaleFactor": 1, "mobile": False}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(str(path))

    def click(self, xpath: str) -> None:
        """Clicks on an element."""
        element = WebDriverWait(self.driver, 30).until(
            lambda driver: driver.find_element(By.XPATH, xpath)
        )
        self.driver.execute_script("arguments[0].click()", element)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser of its own; skips the test where the machine has none, unless `CI` is set."""
    chromium = next((path for name in _NAMES if (path := shutil.which(name))), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        missing = "chromium" if chromium is None else "chromedriver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{missing} is not installed")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(chromedriver))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
