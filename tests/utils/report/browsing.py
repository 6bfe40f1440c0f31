"""What tests do in a browser."""


def keys(browser, text):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(text).perform()


def ask(browser, script):
    return browser.execute_script("return " + script)


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def resize(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def check_page(browser):
    """What holds for every report: it fits, shows all its pictures, and nothing went wrong."""
    for width in (1200, 390):
        resize(browser, width)
        assert ask(browser, "document.documentElement.scrollWidth") <= width
    resize(browser, 1200)
    assert (
        ask(
            browser,
            "[...document.images].filter(i => i.complete && !i.naturalWidth"
            " && i.getAttribute('src')).length",
        )
        == 0
    )
    assert browser.get_log("browser") == []
