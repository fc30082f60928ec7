"""A browser, and a page of a small build to open in it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from kinetics_sounds.pipelines import view

from . import made

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
NEEDED = "KS_TEST_BROWSER"
"""Environment variable that continuous integration sets to `required`: there a missing browser is a failure."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).is_file():
        if os.environ.get(NEEDED) == "required":
            pytest.fail(f"{CHROMIUM} is not there, and {NEEDED}=required")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def page_of_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `made.build`: three of its seven clips are embedded; not to be changed."""
    folder = made.build(tmp_path_factory.mktemp("view") / "build #1")
    assert view.main([str(folder), "--embed", "3"]) == 0
    return folder / "view.html"
