"""One Chromium, shared by the tests of ComfyUI's frontend."""

from __future__ import annotations

import warnings

import pytest
from browser import RENDERINGS, Frontend, chromium, missing_browser


@pytest.fixture(scope="session")
def chrome():
    """The running browser."""
    reason = missing_browser()
    if reason is not None:
        warnings.warn(f"the browser tests are skipped: {reason}", stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=RENDERINGS)
def frontend(request, comfyui, chrome):
    """ComfyUI's frontend in one tab, once for each way of drawing nodes."""
    page = chrome.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(120_000)
    yield Frontend(comfyui, page, request.param).open(request.param)
    page.close()


@pytest.fixture
def no_errors(frontend):
    """Fails the test if a JavaScript error occurs in the frontend."""
    frontend.errors.clear()
    yield
    assert frontend.errors == []
