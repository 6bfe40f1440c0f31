"""What tests do with a report, and in a browser."""

import json
import re
from time import monotonic, sleep


def read_page(path, *odd):
    """A page's text and its data; it needs no other file, and holds no odd name as it is."""
    text = path.read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not [name for name in odd if name in text]
    return text, json.loads(re.search(r'id="data" type="application/json">(.*?)</script>', text)[1])


def keys(browser, text):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(text).perform()


def ask(browser, script):
    return browser.execute_script("return " + script)


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def save_into(browser, folder):
    """Let the browser save its downloads in a new folder."""
    folder.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)


def wait_for(condition):
    end = monotonic() + 10
    while not condition():
        assert monotonic() < end
        sleep(0.05)


def resize(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def check_page(browser):
    """What holds for every report: it fits, shows all its pictures, and nothing went wrong."""
    for width in (1200, 390):
        resize(browser, width)
        assert ask(browser, "document.documentElement.scrollWidth") <= width
    resize(browser, 1200)
    broken = "i => i.complete && !i.naturalWidth && i.getAttribute('src')"
    assert ask(browser, f"[...document.images].filter({broken}).length") == 0
    assert browser.get_log("browser") == []
