// One output of the model: its thought up to the cut, the hint, the answer, and what was cut away.

export const VERDICTS = {
  correct: ["right", "✓", "Right"],
  wrong: ["wrong", "✗", "Wrong"],
  several: ["wrong", "✗", "Wrong: several answers"],
  no_answer: ["none", "○", "No answer"],
  cut: ["none", "○", "No answer: cut off before one"],
};

export const number = value => value.toLocaleString("en");
export const tokens = n => `${number(n)} token${n === 1 ? "" : "s"}`;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// What each token looks like: a line's end is drawn, an end of the turn is named.
function tokenSpan(text, part, ends) {
  if (ends.includes(text)) return element("span", { class: `t ${part} end`, title: text }, "end of turn");
  return element("span", { class: `t ${part}${text.startsWith("\n") ? " line" : ""}` }, text);
}

export class Strip {
  constructor(role, changed) {
    this.root = document.getElementById("strip").content.firstElementChild.cloneNode(true);
    this.root.setAttribute("aria-label", role);
    this.find(".role").textContent = role;
    this.find(".tokens").setAttribute("aria-label", `${role}: what the model wrote`);
    for (const select of this.root.querySelectorAll("select"))
      select.addEventListener("change", () => changed(this.find(".way").value, this.find(".landing").value));
    this.reply = element("div", { class: "reply" });
    this.tag = element("b", { class: "tag thinking" });
    this.awayTag = element("b", { class: "tag away" });
  }

  find(selector) { return this.root.querySelector(selector); }

  // `groups`: [name, [[value, text], ...]]; `landings`: null where the way has none.
  offer(groups, way, landings, landing) {
    this.find(".way").replaceChildren(...groups.map(([name, options]) => {
      const made = options.map(([value, text]) => element("option", { value }, text));
      return name ? element("optgroup", { label: name }, ...made) : made[0];
    }));
    this.find(".way").value = way;
    this.find(".landing-label").hidden = !landings;
    if (!landings) return;
    this.find(".landing").replaceChildren(...Object.entries(landings).map(([value, text]) => element("option", { value }, text)));
    this.find(".landing").value = landing;
  }

  // Nothing is recorded: say why.
  lack(sentence) {
    this.find(".found").hidden = true;
    this.find(".missing").hidden = false;
    this.find(".missing").textContent = sentence;
  }

  show(thought, cell, ends, most, graded) {
    this.find(".found").hidden = false;
    this.find(".missing").hidden = true;
    this.showNumbers(thought, cell, most, graded);
    this.showTokens(thought, cell, ends);
  }

  showNumbers(thought, cell, most, graded) {
    const [kind, sign, words] = VERDICTS[cell.verdict];
    const verdict = this.find(".verdict");
    verdict.className = `verdict ${kind}`;
    verdict.replaceChildren(element("span", { "aria-hidden": "true" }, sign), " ", words);
    const sizes = { thinking: cell.thinking, hint: cell.hint.length, answer: cell.answer.length, away: thought.length - cell.thinking };
    const counts = { ...sizes, total: sizes.thinking + sizes.hint + sizes.answer };
    for (const dd of this.root.querySelectorAll("[data-part]")) dd.textContent = number(counts[dd.dataset.part]);
    for (const bar of this.find(".budget").children) bar.style.width = `${100 * sizes[bar.className] / most}%`;
    this.find(".graded").replaceChildren(...graded);
  }

  showTokens(thought, cell, ends) {
    const place = this.find(".tokens");
    if (this.thought !== thought) {                          // the thought stays while the window moves over it
      this.thought = thought;
      this.spans = thought.map(text => tokenSpan(text, "thinking", ends));
      place.replaceChildren(this.tag, ...this.spans);
    }
    this.spans.forEach((span, i) => span.classList.toggle("away", i >= cell.thinking));
    this.tag.hidden = !cell.thinking;
    this.tag.textContent = `thinking · ${number(cell.thinking)}`;
    const parts = [["hint", cell.hint], ["answer", cell.answer]].filter(([, texts]) => texts.length);
    this.reply.replaceChildren(...parts.map(([part, texts]) =>
      element("p", {}, element("b", { class: `tag ${part}` }, `${part} · ${number(texts.length)}`), ...texts.map(text => tokenSpan(text, part, ends)))));
    const after = this.spans[cell.thinking] ?? null, left = thought.length - cell.thinking;
    this.awayTag.textContent = `${cell.thinking ? "cut away" : "not thought"} · ${number(left)}`;
    this.reply.remove();
    this.awayTag.remove();
    if (parts.length) place.insertBefore(this.reply, after);
    if (left) place.insertBefore(this.awayTag, after);
    const mark = parts.length ? this.reply : left ? this.awayTag : null;
    place.scrollTop = mark ? Math.max(mark.offsetTop - place.clientHeight * .45, 0) : 0;
  }
}
