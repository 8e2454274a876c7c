// The page: what is recorded is loaded, the state is in the address, and everything shown follows from both.

import { drawCurve, percent, swatch } from "./curve.js";
import { Strip, VERDICTS, element, number, tokens } from "./strip.js";

const get = id => document.getElementById(id);
const START = { benchmark: "", problem: "", window: "64", policy: "shifted", other: "", curves: "shifted,hard_cut,no_thinking,unlimited", count: "thinking", phrases: "" };
const state = { ...START };
const strips = [new Strip("Window closes with", (way, landing) => choose("policy", way, landing)), new Strip("Compare with", (way, landing) => choose("other", way, landing))];
let index, page, phrases;                          // the list of benchmarks; one benchmark; its closing phrases, once they are asked for

// --- what is recorded -----------------------------------------------------------------------------------------------

const loaded = {};

function load(file) {
  return loaded[file] ??= fetch(`data/${file}`).then(answer => {
    if (!answer.ok) throw new Error(`${file}: the server answered ${answer.status}`);
    return answer.json();
  }).catch(problem => { delete loaded[file]; throw problem; });
}

const entry = () => index.benchmarks.find(b => b.benchmark === state.benchmark);
const problem = () => page.problems.find(p => p.id === state.problem);
const isPhrase = way => Boolean(way) && !(way in page.ways);
const texts = (file, ids) => ids.map(id => file.tokens[id]);
const shownWays = () => [state.policy, state.other].filter(Boolean);
const wayOf = way => isPhrase(way) ? phrases.ways[way] : page.ways[way];
const recorded = (way, id) => !isPhrase(way) || id in phrases.problems;

function nameOf(way) {
  if (!isPhrase(way)) return page.ways[way].label;
  const [said, landing] = way.split("+");
  return `“${entry().closings.phrases[said]}” ${entry().closings.landings[landing]}`;
}

// What became of the shown problem under a way at a window: a cell, or the sentence that says why there is none.
function cellOf(way, window) {
  const file = isPhrase(way) ? phrases : page, { windows, hint } = wayOf(way);
  const columns = isPhrase(way) ? phrases.problems[state.problem]?.[way] : problem().samples[way];
  if (!columns) return `This phrase was decoded on ${phrases.manifest.n} of the ${page.manifest.n} problems, and not on this one. Next, Previous and Random go to one of them.`;
  const at = windows.length === 1 ? 0 : windows.indexOf(window);
  if (at < 0) return `This phrase was decoded at windows of ${windows.join(", ")} tokens, not at ${number(window)}. Move the window to one of them.`;
  return { thinking: columns.thinking[at], hint: texts(file, columns.hint[at] ? hint : []), answer: texts(file, columns.answer[at]), cut: Boolean(columns.cut[at]),
           verdict: columns.verdict[at], said: columns.said?.[at], outcome: columns.outcome?.[at], windowed: windows.length > 1, window: windows[at] };
}

// --- the state and the address --------------------------------------------------------------------------------------

let waiting;

function keepState(now = false) {
  clearTimeout(waiting);
  const write = () => history.replaceState(null, "", `#${new URLSearchParams(state)}`);
  if (now) write(); else waiting = setTimeout(write, 150);
}

function readState(address = location.href) {
  clearTimeout(waiting);                                     // what is still to be written is older than what is read
  const said = Object.fromEntries(new URLSearchParams(new URL(address).hash.slice(1)));
  for (const key of Object.keys(START)) state[key] = said[key] ?? START[key];
}

// Put in what can be shown for what cannot, and say so.
function mend(key, known, otherwise, notes) {
  if (known.includes(state[key])) return;
  if (state[key]) notes.push(`The link asks for ${key} “${state[key]}”, which is not recorded; shown is “${otherwise}”.`);
  state[key] = otherwise;
}

function choose(key, way, landing) {
  change({ [key]: way && isPhrase(way) ? `${way}+${landing || "exact"}` : way });
}

function change(changes) {
  Object.assign(state, changes);
  keepState();
  show();
}

// --- showing --------------------------------------------------------------------------------------------------------

let turn = 0;

async function show() {
  const mine = ++turn, notes = [];
  try {
    index ??= await load("index.json");
    mend("benchmark", index.benchmarks.map(b => b.benchmark), index.benchmarks[0].benchmark, notes);
    const wanted = entry(), found = await load(wanted.file);
    const some = wanted.closings ? Object.keys(wanted.closings.phrases).flatMap(said => Object.keys(wanted.closings.landings).map(landing => `${said}+${landing}`)) : [];
    const asked = some.includes(state.policy) || some.includes(state.other) || (state.phrases && wanted.closings);
    const closings = asked ? await load(wanted.closings.file) : undefined;
    if (mine !== turn) return;                               // something newer was asked for meanwhile
    [page, phrases] = [found, closings];
    const ways = [...Object.keys(page.ways), ...some];
    mend("problem", page.problems.map(p => p.id), page.first, notes);
    mend("window", page.windows.map(String), page.windows.includes(64) ? "64" : String(page.windows[0]), notes);
    mend("policy", ways, Object.keys(page.ways).includes("shifted") ? "shifted" : ways[0], notes);
    mend("other", ["", ...ways], "", notes);
    mend("count", ["thinking", "total"], "thinking", notes);
  } catch (problem) {
    if (mine === turn) fail(problem);
    return;
  }
  get("status").hidden = true;
  get("status").removeAttribute("class");
  get("main").hidden = false;
  showNote(notes.join(" "));
  showPickers();
  showQuestion();
  showMade();
  showWindow();
  if (notes.length) keepState();                             // the address says what is shown
}

function fail(problem) {
  get("main").hidden = true;
  get("status").hidden = false;
  get("status").className = "failed";
  get("status").replaceChildren(`The recorded data could not be loaded (${problem.message}). Reload the page; if you serve it yourself, serve the whole folder, data included, for example with `,
    element("code", {}, "python -m http.server"), ".");
}

function showNote(text) {
  get("note").hidden = !text;
  get("note").textContent = text;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

let listed;

function showPickers() {
  options(get("benchmark"), index.benchmarks.map(b => [b.benchmark, `${b.label} (${b.problems} problems)`]), state.benchmark);
  if (listed !== page) {
    listed = page;
    options(get("problem"), page.problems.map(p => [p.id, `${p.id} · ${tokens(p.free.length)} · ${VERDICTS[p.samples.unlimited.verdict[0]][1]} without a window`]));
  }
  get("problem").value = state.problem;
  const { closings } = entry();
  const policies = Object.entries(page.ways).map(([way, { label }]) => [way, label]);
  const groups = [["Policies", policies], ...(closings ? [["Closing phrases", Object.entries(closings.phrases).map(([said, text]) => [said, `“${text}”`])]] : [])];
  [state.policy, state.other].forEach((way, i) => {
    const [said, landing] = isPhrase(way) ? way.split("+") : [way];
    strips[i].offer(i ? [["", [["", "nothing"]]], ...groups] : groups, said, landing && closings.landings, landing);
    strips[i].root.classList.toggle("empty", !way);
  });
  get("strips").classList.toggle("two", Boolean(state.other));
  for (const radio of document.querySelectorAll("[name=count]")) radio.checked = radio.value === state.count;
  get("phrases").hidden = !closings;
  get("phrases").open = Boolean(state.phrases);
  showLegend();
}

function showLegend() {
  const drawn = state.curves.split(","), legend = get("legend");
  const rows = Object.entries(page.ways).map(([way, { label }]) => {
    const box = element("input", { type: "checkbox", value: way });
    box.disabled = shownWays().includes(way);
    box.checked = box.disabled || drawn.includes(way);
    box.addEventListener("change", () => {
      const rest = state.curves.split(",").filter(other => other && other !== way);
      change({ curves: [...rest, ...(box.checked ? [way] : [])].join() });
      legend.querySelector(`[value="${way}"]`).focus();
    });
    return element("label", {}, box, swatch(way), ` ${label}`);
  });
  const others = shownWays().filter(isPhrase).map(way => element("span", { class: "drawn" }, swatch(way), ` ${nameOf(way)}`));
  legend.replaceChildren(legend.firstElementChild, ...rows, ...others);
}

function showQuestion() {
  const { question, left_out, expected } = problem();
  get("question").textContent = question + (left_out ? `\n[… ${number(left_out)} more characters]` : "");
  get("expected").replaceChildren(...(expected === null ? [" · right is what passes its tests"] : [" · right is ", element("code", {}, expected)]));
}

function showMade() {
  get("made").textContent = page.made;
  get("model").textContent = page.manifest.model.split("/").pop();
  const { n, problems, ...said } = page.manifest;
  get("manifest").replaceChildren(...Object.entries({ ...said, problems: `${n} of ${problems}` }).map(([name, value]) =>
    element("div", {}, element("dt", {}, name.replace("_", " ")), element("dd", {}, String(value)))));
}

// What was graded of an output, and how it came to its end.
function gradedWords(cell, thought) {
  const said = [];
  if (problem().expected === null) said.push({ right: "Its program passes the tests.", wrong: "Its program fails the tests.", none: "There is no program to test." }[VERDICTS[cell.verdict][0]]);
  else if (cell.said) said.push("It says ", element("code", {}, cell.said), "; right is ", element("code", {}, problem().expected), ".");
  else said.push("It says no value; right is ", element("code", {}, problem().expected), ".");
  if (cell.outcome === "escaped") said.push(" It escaped: told to answer, it goes on thinking.");
  if (!cell.window) said.push(" It was asked for its answer at once.");
  else if (cell.windowed && !cell.cut) said.push(` The model had ended by itself after ${tokens(cell.thinking)}: this window never closes.`);
  else if (!cell.windowed) said.push(cell.cut ? ` It was still writing at ${tokens(cell.window)}, the most it was given.` : ` It ended by itself after ${tokens(thought.length)}.`);
  return said;
}

// All that follows the slider.
function showWindow() {
  const window = Number(state.window), at = page.windows.indexOf(window), slider = get("window");
  Object.assign(slider, { max: page.windows.length - 1, value: at });
  slider.setAttribute("aria-valuetext", `window ${tokens(window)}`);
  slider.style.setProperty("--at", at / (page.windows.length - 1));
  get("now").textContent = tokens(window);
  const thought = thoughtOf(problem()), cells = [state.policy, state.other].map(way => way ? cellOf(way, window) : null);
  const most = thought.length + Math.max(...shownWays().flatMap(way => page.windows.map(w => cellOf(way, w)).map(cell => cell.hint ? cell.hint.length + cell.answer.length : 0)));
  cells.forEach((cell, i) => {
    if (typeof cell === "string") strips[i].lack(cell);
    else if (cell) strips[i].show(thought, cell, page.ends, most, gradedWords(cell, thought));
  });
  showTicks(window);
  showCurve(window);
  showGrid(window);
  announce([`Window ${tokens(window)}.`, ...cells.map((cell, i) => cell && `${nameOf(shownWays()[i])}: ${typeof cell === "string" ? cell : summary(cell)}`)].filter(Boolean).join(" "));
}

const thoughts = new Map();

function thoughtOf(p) {
  if (!thoughts.has(p)) thoughts.set(p, texts(page, p.free));
  return thoughts.get(p);
}

const summary = cell => `${VERDICTS[cell.verdict][2]}; ${cell.thinking} thinking, ${cell.hint.length} hint, ${cell.answer.length} answer tokens.`;

let speaking;

function announce(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => { get("live").textContent = text; }, 400);
}

// Below the slider: every window, and what became of this problem there.
function showTicks(window) {
  get("ticks").replaceChildren(...page.windows.map(w => {
    const signs = shownWays().map(way => {
      const cell = cellOf(way, w), [kind, sign] = VERDICTS[cell.verdict] ?? ["lacking", "·"];
      return element("b", { class: kind }, sign);
    });
    return element("span", w === window ? { class: "here" } : {}, element("span", { class: "tick" }, number(w)), ...signs);
  }));
  get("tick-said").textContent = `✓ right, ✗ wrong, ○ no answer${state.other ? `; above ${nameOf(state.policy)}, below ${nameOf(state.other)}` : ""}`;
}

function drawnWays() {
  const rest = state.curves.split(",").filter(way => way in page.ways && !shownWays().includes(way));
  return [...shownWays(), ...rest].map(way => ({ name: way, ...wayOf(way) }));
}

function showCurve(window) {
  const ways = drawnWays();
  drawCurve(get("curve"), ways, state.count, window, w => change({ window: String(w) }));
  const counts = shownWays().some(isPhrase) ? `; closing phrases on ${phrases.manifest.n} of them` : "";
  const { n, problems } = page.manifest;
  get("curve-about").textContent = `${page.label}, ${n < problems ? `the ${n} of ${problems} problems that are decoded so far` : `all ${n} problems`}${counts}. Band and bars: 95% Wilson intervals over problems.`;
  const heights = shownWays().map(way => {
    const { curve, windows } = wayOf(way), i = windows.length > 1 ? windows.indexOf(window) : 0;
    return i < 0 ? "" : `${nameOf(way)} ${percent(curve.accuracy[i])} (${percent(curve.low[i])} to ${percent(curve.high[i])})`;
  });
  get("curve-said").textContent = `At a window of ${tokens(window)}: ${heights.filter(Boolean).join("; ") || "not decoded"}.`;
  const head = ["policy", "window", "thinking tokens", "all tokens", "right", "95% interval"];
  const rows = ways.flatMap(way => way.windows.map((w, i) => [nameOf(way.name), w ? number(w) : "none", way.curve.thinking[i].toFixed(1), way.curve.total[i].toFixed(1),
    percent(way.curve.accuracy[i]), `${percent(way.curve.low[i])} to ${percent(way.curve.high[i])}`]));
  get("numbers").replaceChildren(element("tr", {}, ...head.map(text => element("th", { scope: "col" }, text))),
    ...rows.map(row => element("tr", {}, ...row.map((text, i) => element(i ? "td" : "th", i ? {} : { scope: "row" }, text)))));
}

// Seven phrases at three landings: what became of the thoughts that the current window cuts.
function showGrid(window) {
  if (!state.phrases || !phrases) return;
  const { landings, windows } = phrases, i = windows.indexOf(window), about = get("phrases-about");
  if (i < 0) {
    get("grid").replaceChildren();
    about.textContent = `Decoded at windows of ${windows.join(", ")} tokens. Move the window to one of them.`;
    return;
  }
  about.textContent = `Window ${tokens(window)}: what became of the problems whose thought it cuts, of ${phrases.manifest.n} (run ${phrases.manifest.run}, at most ${phrases.manifest.answer_tokens} tokens for an answer). Choose one to set it beside.`;
  get("grid").replaceChildren(...Object.entries(phrases.phrases).map(([said, text]) =>
    element("li", {}, element("h3", {}, `“${text}”`), ...Object.entries(landings).map(([landing, where]) => gridButton(`${said}+${landing}`, where, i)))));
}

const OUTCOMES = { right: "right", wrong: "wrong", no_answer: "no answer", escaped: "escaped" };

function gridButton(way, where, i) {
  const found = Object.entries(phrases.ways[way].outcomes).map(([name, counts]) => [name, counts[i]]), all = found.reduce((sum, [, n]) => sum + n, 0);
  const bars = element("span", { class: "stack", "aria-hidden": "true" }, ...found.map(([name, n]) => {
    const part = element("i", { class: name });
    part.style.width = `${100 * n / (all || 1)}%`;
    return part;
  }));
  const words = found.filter(([name, n]) => n || name === "right").map(([name, n]) => `${n} ${OUTCOMES[name]}`).join(", ");
  const button = element("button", { type: "button", "data-way": way, "aria-pressed": String(shownWays().includes(way)) },
    element("span", { class: "where" }, where), bars, element("span", { class: "words" }, `${words} of ${all}`));
  button.addEventListener("click", () => {
    const focus = () => get("grid").querySelector(`[data-way="${way}"]`)?.focus();
    change({ other: way });
    focus();
  });
  return button;
}

// --- what the reader does -------------------------------------------------------------------------------------------

function go(step) {
  const ready = page.problems.filter(p => shownWays().every(way => recorded(way, p.id))), at = ready.indexOf(problem());
  if (step === 0) return change({ problem: ready.filter(p => p.id !== state.problem)[Math.floor(Math.random() * (ready.length - 1))].id });
  const from = page.problems.indexOf(problem()), order = ready.map(p => page.problems.indexOf(p));
  const next = at >= 0 ? (at + step + ready.length) % ready.length : step > 0 ? Math.max(order.findIndex(n => n > from), 0) : order.findLastIndex(n => n < from);
  change({ problem: ready.at(next).id });
}

const THEMES = { system: "light dark", light: "light", dark: "dark" };

function setTheme(name) {
  document.documentElement.style.colorScheme = THEMES[name];
  get("theme").textContent = `Theme: ${name}`;
  get("theme").dataset.name = name;
}

function remember(name) {
  try { localStorage.setItem("z1-window-theme", name); } catch { /* a page may be forbidden to remember */ }
}

function remembered() {
  try { return localStorage.getItem("z1-window-theme"); } catch { return null; }
}

async function copyLink() {
  keepState(true);
  let said = "Copied";
  try { await navigator.clipboard.writeText(location.href); } catch { said = "Copy it from the address bar"; }
  get("copy").textContent = said;
  setTimeout(() => { get("copy").textContent = "Copy link"; }, 2000);
}

get("strips").append(...strips.map(strip => strip.root));
setTheme(remembered() in THEMES ? remembered() : "system");
get("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), name = names[(names.indexOf(get("theme").dataset.name) + 1) % names.length];
  setTheme(name);
  remember(name);
});
get("copy").addEventListener("click", copyLink);
get("benchmark").addEventListener("change", event => change({ benchmark: event.target.value, problem: "", policy: isPhrase(state.policy) ? "" : state.policy, other: isPhrase(state.other) ? "" : state.other, phrases: "" }));
get("problem").addEventListener("change", event => change({ problem: event.target.value }));
get("window").addEventListener("input", event => {
  state.window = String(page.windows[Number(event.target.value)]);
  keepState();
  showNote("");
  showWindow();
});
get("previous").addEventListener("click", () => go(-1));
get("next").addEventListener("click", () => go(1));
get("random").addEventListener("click", () => go(0));
for (const radio of document.querySelectorAll("[name=count]")) radio.addEventListener("change", () => change({ count: radio.value }));
get("phrases").addEventListener("toggle", () => { if (page && get("phrases").open !== Boolean(state.phrases)) change({ phrases: get("phrases").open ? "open" : "" }); });
document.querySelector(".skip").addEventListener("click", event => { event.preventDefault(); get("window").focus(); });
addEventListener("hashchange", event => { readState(event.newURL || location.href); keepState(); show(); });
new ResizeObserver(() => { if (page && !get("main").hidden) showCurve(Number(state.window)); }).observe(document.querySelector(".curve"));
get("question").parentElement.open = innerWidth > 480;   // a phone shows the window first
readState();
show();
