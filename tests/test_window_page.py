"""The page on which one drags the window: its data against the samples, then the page itself in a real browser, by mouse, keys and phone."""
import json
import random
import re
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import pandas as pd
import pytest

from z1.measure.statistics import Curve
from z1.measure.sweep import read_samples
from z1.recipes.coder import LANDINGS
from z1.recipes.coder_results import coder_folder, read_manifests, spent_curve
from z1.window import CLOSINGS
from running import serve

SITE = Path(__file__).resolve().parents[1]/"site"/"window"
AGAIN = "run exp_window_page again"
WORDS = {"correct": "Right", "wrong": "Wrong", "several": "Wrong: several answers", "no_answer": "No answer", "cut": "No answer: cut off before one"}


# -- the data -----------------------------------------------------------------------------------------------------

def read(name): return json.loads((SITE/"data"/name).read_text(encoding="utf-8"))


SAMPLES = read_samples(coder_folder())
INDEX = read("index.json")["benchmarks"]
PAGES = {entry["benchmark"]: read(entry["file"]) for entry in INDEX}
PHRASED = {entry["benchmark"]: read(entry["closings"]["file"]) for entry in INDEX if entry["closings"]}
COLUMNS = ["policy", "window", "problem_id", "thinking_tokens", "hint_tokens", "answer_tokens", "cut", "verdict"]


def rows_of(ways, problem, samples):
    "What the page says of a problem, as rows of samples.parquet."
    for way, s in samples.items():
        for i, window in enumerate(ways[way]["windows"]):
            yield way, window, problem, s["thinking"][i], s["hint"][i], len(s["answer"][i]), bool(s["cut"][i]), s["verdict"][i]


def as_table(rows): return pd.DataFrame(rows, columns=COLUMNS).sort_values(COLUMNS[:3]).reset_index(drop=True)


def committed(table): return table[COLUMNS].sort_values(COLUMNS[:3]).reset_index(drop=True)


def check_table(shown, samples):
    pd.testing.assert_frame_equal(shown, committed(samples), check_dtype=False, obj=f"the page's data ({AGAIN})")


def check_curve(said, rows, way):
    points, total = spent_curve(rows, way).points(), spent_curve(rows, way, "total_tokens").points()
    expected = {"thinking": points.tokens, "total": total.tokens, **{name: points[name] for name in ("accuracy", "low", "high")}}
    for name, column in expected.items(): assert said[name] == pytest.approx(list(column), abs=1e-4), AGAIN
    assert said["n"] == rows[rows.policy == way].problem_id.nunique()


def test_every_benchmark_of_the_samples_is_on_the_page():
    assert set(PAGES) == set(SAMPLES.benchmark), AGAIN
    assert {p.name for p in (SITE/"data").iterdir()} == {"index.json", *(e["file"] for e in INDEX), *(e["closings"]["file"] for e in INDEX if e["closings"])}


@pytest.mark.parametrize("name", PAGES)
def test_every_number_is_a_committed_sample(name):
    page, samples = PAGES[name], SAMPLES[(SAMPLES.benchmark == name) & SAMPLES.policy.isin(list(PAGES[name]["ways"]))]
    check_table(as_table(row for p in page["problems"] for row in rows_of(page["ways"], p["id"], p["samples"])), samples)
    said = {(p["id"], way, w): s for p in page["problems"] for way, some in p["samples"].items() for w, s in zip(page["ways"][way]["windows"], some.get("said", ()))}
    kept = samples.set_index(["problem_id", "policy", "window"]).answer
    assert all(kept[key] == text if text is not None else not isinstance(kept[key], str) for key, text in said.items()), AGAIN
    for way, facts in page["ways"].items(): check_curve(facts["curve"], samples, way)


@pytest.mark.parametrize("name", PAGES)
def test_what_ran_is_said_as_the_manifest_has_it(name):
    manifest = next(m for m in read_manifests(coder_folder()) if m["benchmark"] == name)
    said = PAGES[name]["manifest"]
    assert said["n"] == len(PAGES[name]["problems"]) == SAMPLES[SAMPLES.benchmark == name].problem_id.nunique()
    assert {"run", "model", "weights", "dtype"} <= set(said)
    assert {k: v for k, v in said.items() if k not in ("n", "weights")} == {k: manifest[k] for k in said if k not in ("n", "weights")}, AGAIN
    assert said["weights"] == manifest.get("weights", "as published") and said["run"] in PAGES[name]["made"]


@pytest.mark.parametrize("name", PAGES)
def test_words_are_as_long_as_their_numbers_say(name):
    page = PAGES[name]
    def fine(ids): return all(0 <= i < len(page["tokens"]) for i in ids)
    for p in page["problems"]:
        (whole,) = p["samples"]["unlimited"]["thinking"]
        assert whole == len(p["free"]) and fine(p["free"]), p["id"]
        for way, s in p["samples"].items():
            assert set(s["hint"]) <= {0, len(page["ways"][way]["hint"])} and max(s["thinking"]) <= whole and all(map(fine, s["answer"])), (p["id"], way)
    assert page["first"] in {p["id"] for p in page["problems"]}


@pytest.mark.parametrize("name", PHRASED)
def test_closing_phrases_are_those_that_were_measured(name):
    page, table = PHRASED[name], pd.read_parquet(coder_folder(name)/"closings.parquet")
    assert page["phrases"] == {said: text.strip() for said, text in CLOSINGS.items()} and list(page["landings"]) == list(LANDINGS)
    check_table(as_table(row for id, samples in page["problems"].items() for row in rows_of(page["ways"], id, samples)), table)
    outcomes = table.set_index(["problem_id", "policy", "window"]).outcome
    assert all(outcomes[id, way, w] == o for id, samples in page["problems"].items() for way, s in samples.items() for w, o in zip(page["windows"], s["outcome"]))
    cut = table[(table.landing == "exact")].groupby(["problem_id", "window"]).cut.all()
    for way, facts in page["ways"].items():
        check_curve(facts["curve"], table, way)
        for i, w in enumerate(page["windows"]):
            ids = [id for id, at in cut.index if at == w and cut[id, at]]
            found = table[(table.policy == way) & (table.window == w) & table.problem_id.isin(ids)].outcome.value_counts()
            assert {k: v[i] for k, v in facts["outcomes"].items() if v[i]} == found.to_dict(), AGAIN


# -- the page -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def address(tmp_path_factory):
    "The page below a path of its own, as a project's site has it."
    folder = tmp_path_factory.mktemp("site")
    (folder/"docs").mkdir()
    (folder/"docs"/"window").symlink_to(SITE)
    with serve(folder) as found: yield f"{found}/docs/window/"


@pytest.fixture
def opened(browser, address):
    "Opens the page in a state; afterwards nothing may have failed, been complained about, or been asked of another host."
    contexts, troubles = [], []
    def open_page(state=None, width=1280, height=900, ready=True, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: said.type in ("error", "warning") and troubles.append(said.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(request.url))
        page.on("response", lambda response: response.status >= 400 and troubles.append(f"{response.status} {response.url}"))
        page.on("request", lambda request: request.url.startswith((address, "data:")) or troubles.append(f"asks {request.url}"))
        page.troubles = troubles
        page.goto(f"{address}#{urlencode(state)}" if state else address)
        if ready: page.wait_for_selector("#main:not([hidden])")
        return page
    yield open_page
    for context in contexts: context.close()
    assert troubles == []


def shown(page, strip=0):
    "What a strip says: verdict, and tokens by part."
    return page.evaluate("""strip => { const root = document.querySelectorAll('.strip')[strip];
      const count = part => Number(root.querySelector(`[data-part=${part}]`).textContent.replaceAll(',', ''));
      const spans = part => root.querySelectorAll(`.t.${part}:not(.away)`).length;
      return {verdict: root.querySelector('.verdict').textContent.slice(2), thinking: count('thinking'), hint: count('hint'), answer: count('answer'), total: count('total'),
              drawn: [spans('thinking'), spans('hint'), spans('answer')], away: root.querySelectorAll('.t.away').length} }""", strip)


def state_of(page):
    "What the address says, once it is written."
    page.wait_for_timeout(250)
    return {k: v[0] for k, v in parse_qs(page.evaluate("location.hash.slice(1)")).items()}


def go_to(page, **state):
    "Another state of the opened page, by its address."
    page.evaluate("hash => { location.hash = hash }", urlencode(state))
    page.wait_for_function("""want => document.querySelector('#problem').value === want.problem && document.querySelector('.strip .way').value === want.policy
      && document.querySelector('#window').getAttribute('aria-valuetext') === `window ${Number(want.window).toLocaleString('en')} tokens`
      && document.querySelectorAll('.strip .way')[1].value === (want.other ?? '').split('+')[0]""", 
                           arg={k: str(v) for k, v in state.items()})


def expected(row, free):
    parts = [row.thinking_tokens, row.hint_tokens, row.answer_tokens]
    return dict(verdict=WORDS[row.verdict], thinking=parts[0], hint=parts[1], answer=parts[2], total=row.total_tokens, drawn=parts, away=free - parts[0])


def test_ten_random_problems_and_windows_of_every_benchmark_are_their_samples(opened):
    free = {(name, p["id"]): len(p["free"]) for name, page in PAGES.items() for p in page["problems"]}
    rows = SAMPLES[SAMPLES.policy.isin({way for page in PAGES.values() for way in page["ways"]})]
    chance = random.Random(14)
    drawn = [row for _, cell in rows.groupby(["benchmark", "policy"]) for row in chance.sample(list(cell.itertuples()), 2)]
    assert len(drawn) >= 10 * len(PAGES) and len({r.policy for r in drawn}) >= 5 and len({r.window for r in drawn}) >= 7
    assert len({r.benchmark for r in drawn}) == len(PAGES)
    page = opened()
    for row in sorted(drawn, key=lambda r: r.benchmark):
        fixed = row.window not in PAGES[row.benchmark]["windows"] or row.policy == "unlimited"   # it has no window: the slider does not matter
        go_to(page, benchmark=row.benchmark, problem=row.problem_id, policy=row.policy, window=64 if fixed else row.window)
        assert shown(page) == expected(row, free[row.benchmark, row.problem_id]), row


def test_the_words_shown_are_those_of_the_samples(opened):
    data = PAGES["cruxeval-o"]
    page = opened(dict(benchmark="cruxeval-o", problem=data["first"], policy="shifted", window=64))
    problem = next(p for p in data["problems"] if p["id"] == data["first"])
    (at,) = [i for i, w in enumerate(data["ways"]["shifted"]["windows"]) if w == 64]
    text = {part: page.evaluate("part => [...document.querySelectorAll(`.strip .t.${part}:not(.away)`)].map(t => t.title || t.textContent).join('')", part)
            for part in ("thinking", "hint", "answer")}
    def words(ids): return "".join(data["tokens"][i] for i in ids)
    s = problem["samples"]["shifted"]
    assert text == dict(thinking=words(problem["free"][:s["thinking"][at]]), hint=words(data["ways"]["shifted"]["hint"]), answer=words(s["answer"][at]))


# -- by hand --------------------------------------------------------------------------------------------------------

def windows_seen(page): return page.get_attribute("#window", "aria-valuetext")


def test_the_slider_by_mouse(opened):
    page = opened()
    box = page.locator("#window").bounding_box()
    def at(share): return box["x"] + 15 + share * (box["width"] - 30), box["y"] + box["height"] / 2
    page.mouse.move(*at(2 / 6))                                                  # the thumb stands at 64, the third of seven
    page.mouse.down()
    seen = []
    for step in (3, 4, 5, 6, 0):
        page.mouse.move(*at(step / 6), steps=4)
        seen.append((windows_seen(page), shown(page)["thinking"]))
    page.mouse.up()
    assert [s for s, _ in seen] == [f"window {w} tokens" for w in ("128", "256", "512", "1,024", "16")]
    assert seen[-1][1] == 16 and state_of(page)["window"] == "16" and page.inner_text("#now") == "16 tokens"


def test_the_slider_by_keys(opened):
    page = opened()
    page.focus("#window")
    seen = []
    for key in ("Home", "ArrowRight", "ArrowUp", "End", "ArrowLeft"):
        page.keyboard.press(key)
        seen.append(windows_seen(page))
    assert seen == [f"window {w} tokens" for w in ("16", "32", "64", "1,024", "512")]
    page.wait_for_function("document.querySelector('#live').textContent.startsWith('Window 512 tokens.')")
    assert "answer tokens" in page.inner_text("#live")


def test_all_controls_by_keys_alone(opened):
    page = opened()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value || document.activeElement.className || document.activeElement.tagName"))
        if reached[-1] == "notebook": break
    wanted = ["skip", "copy", "theme", "benchmark", "problem", "previous", "next", "random", "question", "window", "way", "tokens", "thinking", "lead_in", "notebook"]
    assert [name for name in wanted if not any(name in one for one in reached)] == [], reached
    before = page.evaluate("location.hash")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("[document.activeElement.id, location.hash]") == ["window", before], "it skips, and the state stays"


def test_another_problem_and_benchmark(opened):
    page = opened()
    first = page.input_value("#problem")
    page.click("#next")
    second = page.input_value("#problem")
    page.click("#previous")
    ids = [p["id"] for p in PAGES[page.input_value("#benchmark")]["problems"]]
    assert page.input_value("#problem") == first and second == ids[(ids.index(first) + 1) % len(ids)]
    page.click("#random")
    assert page.input_value("#problem") != first
    for name, data in PAGES.items():
        page.select_option("#benchmark", name)
        page.wait_for_function("id => document.querySelector('#problem').value === id", arg=data["first"])
        assert data["manifest"]["run"] in page.inner_text("#manifest") and data["manifest"]["weights"] in page.inner_text("#manifest")
        assert page.inner_text("#made") == data["made"]


def test_the_curve_says_its_interval(opened):
    page = opened(dict(benchmark="cruxeval-o", window=128, policy="shifted", other="hard_cut"))
    curve = PAGES["cruxeval-o"]["ways"]["shifted"]["curve"]
    i = PAGES["cruxeval-o"]["ways"]["shifted"]["windows"].index(128)
    said = page.inner_text("#curve-said")
    assert f"{curve['accuracy'][i]:.1%} ({curve['low'][i]:.1%} to {curve['high'][i]:.1%})" in said and "hard cut" in said
    assert page.locator("#curve .ring").count() == 2 and page.locator("#curve .band").count() == 1   # one a shown policy with windows
    before = page.locator("#curve polyline").count()
    page.check("#legend [value=lead_in]")
    assert page.locator("#curve polyline").count() == before + 1 and "lead_in" in state_of(page)["curves"]
    page.check("[name=count][value=total]")
    assert "all tokens" not in page.inner_text("#curve-title") and "hint and answer" in page.locator("#curve").text_content()
    curve = page.locator("#curve")
    curve.click(position=dict(x=curve.bounding_box()["width"] - 14, y=60))
    assert state_of(page)["window"] == "1024"


def test_two_policies_side_by_side(opened):
    page = opened(dict(benchmark="cruxeval-o", window=64))
    assert page.locator(".strip").nth(1).locator(".found").is_hidden()
    page.locator(".strip").nth(1).locator(".way").select_option("no_thinking")
    row = SAMPLES.query("benchmark == 'cruxeval-o' and policy == 'no_thinking' and problem_id == @PAGES['cruxeval-o']['first']").iloc[0]
    assert shown(page, 1)["thinking"] == 0 and shown(page, 1)["answer"] == row.answer_tokens and state_of(page)["other"] == "no_thinking"


@pytest.mark.parametrize("name", PHRASED)
def test_closing_phrases_can_be_compared(opened, name):
    data = PHRASED[name]
    page = opened(dict(benchmark=name, window=64))
    page.locator("#phrases summary").click()
    page.wait_for_selector("#grid button")
    assert page.locator("#grid li").count() == len(data["phrases"]) and page.locator("#grid button").count() == len(data["ways"])
    counts = {k: v[data["windows"].index(64)] for k, v in data["ways"]["open_box+newline"]["outcomes"].items()}
    page.click("#grid [data-way='open_box+newline']")
    assert f"{counts['right']} right" in page.inner_text("#grid [data-way='open_box+newline']") and f"of {sum(counts.values())}" in page.inner_text("#grid [data-way='open_box+newline']")
    second = page.locator(".strip").nth(1)
    assert second.locator(".way").input_value() == "open_box" and second.locator(".landing").input_value() == "newline"
    if page.input_value("#problem") not in data["problems"]:
        assert "not on this one" in second.locator(".missing").inner_text()
        page.click("#next")
    id = page.input_value("#problem")
    table = pd.read_parquet(coder_folder(name)/"closings.parquet").set_index(["policy", "window", "problem_id"])
    for landing in LANDINGS:
        second.locator(".landing").select_option(landing)
        row, seen = table.loc[(f"open_box+{landing}", 64, id)], shown(page, 1)
        assert [seen[part] for part in ("thinking", "hint", "answer")] == [row.thinking_tokens, row.hint_tokens, row.answer_tokens] and seen["verdict"] == WORDS[row.verdict]
    page.focus("#window")
    page.keyboard.press("Home")
    assert "decoded at windows of 32, 64, 128, 256" in second.locator(".missing").inner_text()


# -- what a link keeps ------------------------------------------------------------------------------------------------

STATES = [dict(benchmark="humaneval", problem=PAGES["humaneval"]["problems"][3]["id"], window="256", policy="lead_in", other="hard_cut", curves="shifted,lead_in", count="total"),
          dict(benchmark="cruxeval-o", problem=sorted(PHRASED["cruxeval-o"]["problems"])[5], window="128", policy="shifted", other="final_answer+32 more", curves="hard_cut",
               count="thinking", phrases="open")]


@pytest.mark.parametrize("state", STATES, ids=lambda s: s["benchmark"])
def test_a_link_keeps_the_state(opened, state):
    page = opened(state)
    page.focus("#window")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")                                           # there and back: the page writes the address anew
    assert state_of(page) == state
    again = opened(state_of(page))
    assert [shown(again, i) for i in (0, 1)] == [shown(page, i) for i in (0, 1)]
    for what in ("#legend", "#curve-said", "#grid", "#question"): assert again.inner_text(what) == page.inner_text(what)
    before = page.input_value("#problem")
    page.evaluate("history.pushState(null, '', location.hash)")
    page.click("#next")
    assert state_of(page)["problem"] != before
    page.go_back()
    page.wait_for_function("id => document.querySelector('#problem').value === id", arg=before)


def test_a_link_to_what_is_not_recorded_says_so(opened):
    page = opened(dict(benchmark="cruxeval-o", problem="sample_of_nobody", window="77", policy="hopeful"))
    said = page.inner_text("#note")
    assert all(word in said for word in ("sample_of_nobody", "77", "hopeful")) and page.input_value("#problem") == PAGES["cruxeval-o"]["first"]
    assert state_of(page)["window"] == "64"
    page.focus("#window")
    page.keyboard.press("End")
    assert page.locator("#note").is_hidden()


def test_data_that_cannot_be_loaded_is_said(opened, address):
    page = opened(ready=False)
    page.wait_for_selector("#main:not([hidden])")
    page.route("**/humaneval.json", lambda route: route.fulfill(status=404, body=""))
    page.evaluate("document.querySelector('#benchmark').value = 'humaneval'; document.querySelector('#benchmark').dispatchEvent(new Event('change'))")
    page.wait_for_selector("#status.failed")
    assert "humaneval.json: the server answered 404" in page.inner_text("#status") and page.locator("#main").is_hidden()
    assert page.troubles and all("404" in t or t.endswith("humaneval.json") for t in page.troubles)  # the browser's own words
    page.troubles.clear()
    page.unroute("**/humaneval.json")
    page.evaluate("dispatchEvent(new Event('hashchange'))")                       # a second try finds it
    page.wait_for_selector("#main:not([hidden])")
    assert page.locator("#status").is_hidden()


# -- for everybody --------------------------------------------------------------------------------------------------

VIEWS = [*STATES, dict(benchmark="cruxeval-o", problem=PAGES["cruxeval-o"]["first"], window="16", policy="hard_cut", other="unlimited", phrases="open")]


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_phone_scrolls_in_one_direction(opened, width):
    page = opened(width=width, height=640)
    for state in (None, *VIEWS):
        if state: go_to(page, **state)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.wait_for_timeout(100)
        wide, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
        assert wide <= inner, f"{state}: {wide} pixels"
    small = page.evaluate("""[...document.querySelectorAll('button, select, summary, #window, fieldset label')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24)
      .map(e => e.outerHTML.slice(0, 80))""")
    assert small == [], "a finger needs 24 pixels"


def test_every_control_has_a_name(opened):
    page = opened(STATES[1])
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "combobox", "slider", "link", "checkbox", "radio", "DisclosureTriangle", "image", "img", "region", "group", "article", "table"}
    found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored") and n["role"]["value"] in controls]
    found = [(role, name) for role, name in found if role not in ("table", "group", "article") or name or role == "article"]
    assert [role for role, name in found if not name.strip()] == []
    roles = [role for role, _ in found]
    assert roles.count("slider") == 1 and ("slider", "Thinking window") in found and roles.count("combobox") == 5 and roles.count("radio") == 2
    (slider,) = [n for n in nodes if n.get("role", {}).get("value") == "slider"]
    assert next(p["value"]["value"] for p in slider["properties"] if p["name"] == "valuetext") == "window 128 tokens"
    assert page.evaluate("document.documentElement.lang") == "en" and page.locator("h1").count() == 1


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const found = rgba(getComputedStyle(e).backgroundColor); if (found[3] === 255) return found; } return [255, 255, 255, 255]; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((m, n) => n - m); return (x + .05) / (y + .05); };
  const pairs = {}, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest('template, script, option, .unseen') || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), front = rgba(e instanceof SVGElement ? style.fill : style.color), back = behind(e);
    const name = `${front.slice(0, 3)} on ${back.slice(0, 3)}`;
    pairs[name] ??= [ratio(front, back), `${e.tagName}.${e.getAttribute('class') ?? ''}: ${walker.currentNode.data.trim().slice(0, 30)}`];
  }
  const drawn = {};
  for (const e of document.querySelectorAll('#curve .way polygon, #curve .way circle:not(.ring), #curve .ring, .stack .right, .budget i.thinking')) {
    const style = getComputedStyle(e), front = e instanceof SVGElement ? (style.fill === 'none' ? style.stroke : style.fill) : style.backgroundColor;
    drawn[`${front} on ${behind(e.parentElement)}`] = [ratio(rgba(front), e.matches('.stack .right') ? rgba(getComputedStyle(e.parentElement).backgroundColor) : behind(e.parentElement)), e.outerHTML.slice(0, 90)];
  }
  return [pairs, drawn];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_drawings_stand_out(opened, scheme):
    page = opened(STATES[1], color_scheme=scheme)
    for state in (STATES[1], STATES[0]):
        go_to(page, **state)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        for verdict in ("right", "wrong", "none"):
            page.evaluate("kind => { document.querySelector('.verdict').className = `verdict ${kind}` }", verdict)
            words, drawn = page.evaluate(CONTRAST)
            assert {k: v for k, v in words.items() if v[0] < 4.5} == {}
            assert {k: v for k, v in drawn.items() if v[0] < 3} == {}
        assert len(words) > 8


def test_light_dark_and_what_the_system_has(opened):
    page = opened(color_scheme="dark")
    def paper(): return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))
    dark = paper()
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light" and paper() > 600 > 150 > dark
    page.reload()
    page.wait_for_selector("#main:not([hidden])")
    assert page.inner_text("#theme") == "Theme: light" and paper() > 600, "it is remembered"
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark" and paper() == dark


def test_nothing_moves_for_who_asked_for_that(opened):
    page = opened(reduced_motion="reduce")
    assert page.evaluate("[...document.querySelectorAll('*')].filter(e => !/^(0s)(, 0s)*$/.test(getComputedStyle(e).transitionDuration)).length") == 0


def test_colour_is_never_alone(opened):
    "Thinking, hint, answer and what is cut away differ by a line and a label, verdicts by a sign."
    page = opened(dict(benchmark="cruxeval-o", policy="shifted", window="16"))
    styles = page.evaluate("""['thinking:not(.away)', 'hint', 'answer', 'thinking.away'].map(part => { const s = getComputedStyle(document.querySelector(`.strip .t.${part}`));
      return [s.borderBottomStyle, s.textDecorationLine, s.borderBottomColor === 'rgba(0, 0, 0, 0)'].join() })""")
    assert len(set(styles)) == 4 and "line-through" in styles[3]
    tags = page.locator(".strip").first.locator(".tag").all_inner_texts()
    assert [t.split(" · ")[0] for t in tags] == ["thinking", "hint", "answer", "cut away"]
    assert page.locator(".verdict").first.inner_text()[0] in "✓✗○"
