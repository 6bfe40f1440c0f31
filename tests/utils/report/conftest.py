"""A headless Chromium for tests of pages."""

import shutil
import tempfile

import pytest


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (
            "headless no-sandbox disable-gpu disable-quic no-first-run disable-dev-shm-usage "
            "disable-background-networking disable-component-update disable-sync "
            f"user-data-dir={profile}"
        ).split():
            options.add_argument("--" + flag)
        window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        window.set_window_size(1200, 900)
        yield window
        window.quit()
