"""Headless Chromium without a GPU, and the page of an archive in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
]


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A driver of Chromium, 1440 x 1000; skips the test where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    if not (shutil.which(CHROMIUM) and shutil.which(CHROMEDRIVER)):
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    driver.set_window_size(1440, 1000)
    try:
        yield driver
    finally:
        driver.quit()


def show(driver: Any, path: Path, hash_: str = "") -> Any:
    """The browser with this page loaded anew, unfolded and painted."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get("about:blank")
    driver.get(path.as_uri() + hash_)
    WebDriverWait(driver, 120, poll_frequency=0.02).until(
        lambda driver: driver.execute_script("return !!window.ainerd")
    )
    return settled(driver)


def settled(driver: Any) -> Any:
    driver.execute_async_script("window.ainerd.ready().then(arguments[arguments.length - 1])")
    return driver


def state(driver: Any) -> dict:
    return driver.execute_script("return window.ainerd.state()")
