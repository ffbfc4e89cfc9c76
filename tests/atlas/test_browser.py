"""The site in a real browser, from the file system and without network: filters, links, colours, keyboard, phone."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from frugal.atlas import documentation
from frugal.catalogue.index import cards, select

WITH_DOCS = documentation.missing() is None
PAGES = ["index.html", "proved.html", "combinations.html"]
PAGES += [f"system/{slug}.html" for slug in ("ead", "capo", "rmt", "lp-reg")]
DOCS = ["docs/index.html", "docs/tutorials/own_patch.html", "docs/reference/methods.html"] if WITH_DOCS else []


class Browser:
    """The few words in which the tests below speak."""

    def __init__(self, driver, site):
        self.driver, self.site = driver, site

    def open(self, path):
        self.driver.get(f"{self.site.as_uri()}/{path}")
        return self

    def do(self, script, *values):
        return self.driver.execute_script(script, *values)

    def find(self, css):
        return self.driver.find_element("css selector", css)

    def shown(self):
        """Slugs in the list."""
        return self.do("return [...document.querySelectorAll('.family li:not([hidden]) h3')].map(e => e.textContent)")

    def choose(self, name, value):
        from selenium.webdriver.support.select import Select

        Select(self.find(f"select[name={name}]")).select_by_value(value)
        return self

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        return self

    def query(self):
        return parse_qs(urlsplit(self.driver.current_url).query)

    def count(self):
        return self.find("#count").text

    def colour(self):
        return self.do("return getComputedStyle(document.body).backgroundColor")

    def prefer(self, scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def width(self, pixels):
        size = {"width": pixels, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def browser(chromium, site):
    """The first page, with a clean memory; afterwards the console must be empty."""
    browser = Browser(chromium, site).open("index.html")
    browser.do("localStorage.clear()")
    chromium.refresh()
    yield browser
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.prefer("")
    assert chromium.get_log("browser") == []


def test_filters_narrow_the_list_and_stand_in_the_address(browser):
    assert len(browser.shown()) == 248 and browser.count() == "248 systems"
    browser.choose("family", "language").choose("question", "credit")
    expected = [card.slug for card in select(family="language", changes="credit")]
    assert browser.shown() == expected
    assert browser.count() == f"{len(expected)} of 248 systems"
    assert browser.query() == {"family": ["language"], "question": ["credit"]}
    browser.driver.refresh()
    assert browser.shown() == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("status", "built", lambda card: card.status == "built"),
        ("kind", "survey", lambda card: card.kind == "survey"),
        ("question", "act", lambda card: "act" in card.changes),
        ("family", "world_models", lambda card: card.family == "world_models"),
        ("verdict", "not-shown", lambda card: card.slug == "lp-reg"),
        ("verdict", "holds", lambda card: card.slug == "ead"),
    ],
)
def test_each_filter_shows_what_it_says(browser, name, value, expected):
    browser.choose(name, value)
    assert set(browser.shown()) == {card.slug for card in cards().values() if expected(card)}
    headings = browser.do("return [...document.querySelectorAll('.family:not([hidden])')].length")
    assert headings == len({card.family for card in cards().values() if expected(card)})


def test_search_takes_all_words_from_anywhere_in_a_card(browser):
    browser.find("[name=q]").send_keys("Temperature TOKEN")
    found = browser.shown()
    assert "ead" in found and 0 < len(found) < 40
    browser.find("[name=q]").send_keys(" zebra")
    assert browser.shown() == [] and browser.find("#none").is_displayed()
    browser.find("#filters [type=reset]").click()
    assert len(browser.shown()) == 248 and browser.query() == {}
    assert not browser.find("#none").is_displayed() and not browser.find("#filters [type=reset]").is_displayed()
    browser.find("[name=q]").send_keys("2510.05251")
    assert browser.shown() == ["ead"]


def test_links_lead_there_and_back_to_the_same_choice(browser):
    browser.choose("status", "built")
    found = browser.shown()
    browser.find('a[href="system/ead.html"]').click()
    assert browser.find("h1").text == "ead"
    browser.driver.back()
    assert browser.shown() == found == [card.slug for card in select(built=True)]
    browser.open("system/ead.html").find('a[href$="?question=act"]').click()
    assert "ead" in browser.shown() and browser.query() == {"question": ["act"]}
    browser.find("nav a[href$='proved.html']").click()
    assert browser.find("h1").text == "What is proved"


def test_colours_follow_the_system_until_they_are_chosen(browser):
    browser.prefer("light")
    light = browser.colour()
    browser.prefer("dark")
    dark = browser.colour()
    assert light != dark
    switch = browser.find("#theme")
    switch.click()
    assert switch.get_attribute("aria-label") == "Colours: light" and browser.colour() == light
    switch.click()
    browser.prefer("light")
    assert browser.colour() == dark
    assert browser.open("system/ead.html").colour() == dark
    if WITH_DOCS:
        assert browser.open("docs/index.html").do("return document.body.dataset.theme") == "dark"
    browser.open("index.html").find("#theme").click()
    assert browser.colour() == light, "auto again"


def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser):
    from selenium.webdriver.common.keys import Keys

    def focus():
        return browser.driver.switch_to.active_element

    browser.press(Keys.TAB)
    assert focus().text == "Skip to content" and focus().rect["x"] >= 0
    browser.press(Keys.ENTER)
    assert focus().get_attribute("id") == "main"
    browser.press(*[Keys.TAB] * 3)  # two links, then the search
    reached = []
    for _ in range(6):
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        reached.append(focus().get_attribute("name"))
        assert browser.do(outline) == "solid"
        browser.press(Keys.TAB)
    assert reached == ["q", "question", "family", "kind", "status", "verdict"]
    assert focus().get_attribute("href").endswith(".html")
    browser.press("/", "annealed")
    assert browser.find("[name=q]").get_attribute("value") == "annealed" and "ead" in browser.shown()
    browser.press(Keys.TAB, "act")
    assert browser.query() == {"q": ["annealed"], "question": ["act"]}


def test_everything_has_a_name_for_those_who_listen(browser):
    for path in PAGES:
        nodes = browser.open(path).driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = {"link", "button", "combobox", "searchbox", "image", "img", "region", "navigation"}
        named = [(n["role"]["value"], n["name"]["value"]) for n in nodes if n["role"]["value"] in roles]
        assert named and all(name.strip() for _, name in named), path
    assert browser.open("index.html").find("#count").get_attribute("role") == "status"


@pytest.mark.parametrize("path", PAGES + DOCS)
@pytest.mark.parametrize("pixels", [320, 390])
def test_a_phone_needs_no_sideways_scrolling(browser, path, pixels):
    browser.width(pixels)
    browser.open(path)
    assert browser.do("return document.documentElement.scrollWidth") <= pixels
    assert browser.do("return innerWidth") == pixels


def test_commands_can_be_copied(browser):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.open("system/ead.html")
    origin = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", origin)
    browser.do(
        "window.said = []; const b = document.querySelector('.command .copy');"
        "new MutationObserver(() => said.push(b.textContent)).observe(b, {childList: true})"
    )  # it says so for a moment only
    browser.find(".command .copy").click()
    WebDriverWait(browser.driver, 20).until(lambda _: browser.do("return said.length"))
    assert re.match("Copied|Selected", browser.do("return said[0]"))


def test_curves_are_drawn_in_both_schemes(browser):
    browser.open("system/ead.html")
    strokes = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        strokes.append(
            browser.do("return [...document.querySelectorAll('.mean')].map(e => getComputedStyle(e).stroke)")
        )
    assert all(len(set(colours)) == 2 for colours in strokes) and strokes[0] != strokes[1]
    box = browser.do("const b = document.querySelector('.mean').getBoundingClientRect(); return [b.width, b.height]")
    assert box[0] > 300 and box[1] > 50


@pytest.mark.skipif(not WITH_DOCS, reason=f"no documentation: {documentation.missing()}")
def test_documentation_can_be_searched_and_leads_back(browser):
    browser.open("docs/search.html?q=grpo")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser.driver, 5).until(
        lambda _: browser.do("return document.querySelectorAll('#search-results a').length")
    )
    browser.open("docs/tutorials/own_task.html").find(".announcement a").click()
    assert len(browser.shown()) == 248
