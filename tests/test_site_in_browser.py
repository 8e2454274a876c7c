"What only a browser knows of the web site: words stand out, fields have names, and a phone shows all of it."
import pytest

from running import serve
from test_site import SITE, pages  # noqa: F401

SHOWN = ["index.html", "window/index.html", "api/measure.statistics.html", "07_measure/03_statistics.html", "experiments/coder/index.html"]

# Contrast by WCAG 2.2, success criterion 1.4.3: 4.5, and 3 for large words. Nothing is said of pictures.
FAINT = """() => {
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b };
  const read = text => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v.slice(0, 3), 1] : v };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3]));
  const behind = element => {
    const layers = [];
    for (let e = element; e && !(layers.length && layers.at(-1)[3] == 1); e = e.parentElement) layers.push(read(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]) };
  const faint = {}, words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const text = words.currentNode.textContent.trim(), element = words.currentNode.parentElement, box = element.getBoundingClientRect();
    if (!text || box.width < 2 || box.height < 2 || element.closest("svg, script, style") || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const style = getComputedStyle(element), ground = behind(element), [a, b] = [light(over(read(style.color), ground)), light(ground)];
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (contrast < (large ? 3 : 4.5)) faint[`${style.color} on ${ground.map(Math.round)}: ${contrast.toFixed(2)}`] = text.slice(0, 40);
  }
  return faint }"""
NAMELESS = """() => [...document.querySelectorAll("input:not([type=hidden]), select, button, svg[role=img], [role=region]")]
  .filter(e => e.checkVisibility() && !(e.labels && e.labels.length) && !e.ariaLabel && !e.title && !e.textContent.trim() && !e.getAttribute("aria-labelledby"))
  .map(e => e.outerHTML.slice(0, 90))"""


@pytest.fixture(scope="module")
def seen(browser, pages):  # noqa: F811
    "Opens a page of the site."
    with serve(SITE) as address:
        def open_page(name, scheme, width):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(f"{address}/{name}")
            page.wait_for_load_state("networkidle")
            return page
        yield open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SHOWN)
def test_words_stand_out(seen, name, scheme):
    assert seen(name, scheme, 1280).evaluate(FAINT) == {}


@pytest.mark.parametrize("name", SHOWN)
def test_every_field_has_a_name(seen, name):
    assert seen(name, "light", 1280).evaluate(NAMELESS) == []


@pytest.mark.parametrize("name", SHOWN)
def test_a_phone_shows_all_of_it(seen, name):
    assert seen(name, "light", 320).evaluate("document.documentElement.scrollWidth") <= 320


def test_faint_words_and_fields_without_names_would_be_found(browser):
    page = browser.new_page()
    page.set_content("<p style='color: #999'>faint</p><p style='color: #767676'>just enough</p><input><label>a <input></label>")
    assert list(page.evaluate(FAINT).values()) == ["faint"] and len(page.evaluate(NAMELESS)) == 1
