"use strict";
// The page: reads what it carries, and puts the parts together.

/** @param {string} id */
function carried(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

/** Everything about clips: filters, listing, one clip, findings. */
class ClipsView {
  /** @param {Table} table @param {Array<Object>} media @param {{count: number, shown: Array<Object>}} findings */
  constructor(table, media, findings) {
    this.table = table;
    this.filters = new Filters(table);
    this.clips = new Clips(table, media);
    this.listing = new Listing(this.clips, () => this.update());
    this.bars = this.filters.dimensions
      .filter((dimension) => dimension.size > 0)
      .map((dimension) => new Bars(this.filters, dimension, () => this.update()));
    this.findings = findings;
    this.told = make("p", { class: "told", role: "status" });
    this.one = make("section", { class: "one", hidden: true, "aria-labelledby": "clip-title" });
    this.search = make("input", { type: "search", id: "search", placeholder: "key, class, split or message", autocomplete: "off" });
    this.search.title = 'each of these words, or "several words" in quotes';
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.find(), 120);
    });
    this.reset = make("button", { type: "button", text: "Clear filters", onclick: () => this.clear() });
    this.save = make("button", { type: "button", text: "Save shown as CSV", onclick: () => this.export() });
    this.use = make("span", { text: useOf(table.columns.get("key").data) });
  }

  elements() {
    const label = make("label", { for: "search", text: "Search" });
    const tools = make("div", { class: "tools", role: "search" }, make("div", { class: "find" }, label, this.search), this.told, this.reset, this.save, this.use);
    const lists = this.bars.filter((bars) => !bars.isHistogram).map((bars) => bars.element);
    const histograms = this.bars.filter((bars) => bars.isHistogram).map((bars) => bars.element);
    const filters = make("details", { class: "filters", open: matchMedia("(min-width: 62rem)").matches });
    filters.append(make("summary", {}, make("h2", { text: "Filters" })), make("div", { class: "groups" }, ...lists));
    filters.append(make("div", { class: "groups" }, ...histograms));
    const clips = make("section", { "aria-labelledby": "clips-title" }, make("h2", { id: "clips-title", text: "Clips" }), this.listing.element);
    return [make("div", {}, tools, this.one, make("div", { class: "split" }, filters, clips), ...this.findingsSection())];
  }

  findingsSection() {
    const { count: total, shown } = this.findings;
    if (!total) return [];
    const title = make("h2", { id: "findings-title", text: `Duplicates and leaks: ${count(total)}` });
    const items = shown.map((finding) => {
      const link = (key) => make("a", { href: `#key=${encodeURIComponent(key)}`, text: key });
      const place = finding.keys.includes(finding.place) ? link(finding.place) : finding.place;
      const others = finding.keys.filter((key) => key !== finding.place).flatMap((key, n) => [n ? ", " : ": ", link(key)]);
      return make("li", {}, make("b", { text: finding.kind.replaceAll("_", " ") }), " ", place, `: ${finding.what}`, ...others);
    });
    const more = total > shown.length ? [make("p", { text: `and ${count(total - shown.length)} more: ks-publish check` })] : [];
    return [make("section", { "aria-labelledby": "findings-title" }, title, make("ul", { class: "findings" }, ...items), ...more)];
  }

  update() {
    const began = performance.now();
    const rows = this.filters.shown(this.listing.sequence);
    for (const bars of this.bars) bars.update();
    this.listing.show(rows);
    this.rows = rows;
    this.told.textContent = `${count(rows.length)} of ${count(this.table.count)} clips`;
    this.reset.disabled = !this.filters.active;
    this.save.disabled = rows.length === 0;
    performance.measure("filter", { start: began, end: performance.now() });
  }

  /** Show the clips that have what was typed. */
  find() {
    clearTimeout(this.typing);
    this.typing = 0;
    this.filters.find(this.search.value);
    this.update();
  }

  clear() {
    this.search.value = "";
    this.filters.clear();
    this.find();
  }

  export() {
    if (this.typing) this.find();
    if (!this.rows.length) return;
    const url = URL.createObjectURL(new Blob([csvOf(this.table, this.rows)], { type: "text/csv" }));
    make("a", { href: url, download: "clips.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** Show the clip that the address names. */
  follow() {
    const named = /^#key=(.+)$/.exec(location.hash);
    const key = named ? safelyDecoded(named[1]) : "";
    const row = key ? this.table.find(key) : -1;
    this.one.hidden = !key;
    if (!key) return this.one.replaceChildren();
    if (row < 0) {
      const close = make("button", { type: "button", text: "Close", onclick: () => this.close() });
      const heading = make("h2", { id: "clip-title", text: `${key} is not among these clips`, tabIndex: -1 });
      this.one.replaceChildren(make("div", { class: "top" }, heading, close));
    } else this.one.replaceChildren(...this.clips.whole(row, () => this.close()));
    this.one.scrollIntoView();
    return this.one.querySelector("h2").focus({ preventScroll: true });
  }

  close() {
    history.pushState(null, "", location.pathname + location.search);
    this.follow();
    this.search.focus({ preventScroll: true });
  }

  keys(event) {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === "Escape" && !this.one.hidden) this.close();
    else if (event.key === "Escape" && this.filters.active) this.clear();
    else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.search.focus();
    }
  }
}

/** What the saved CSV is for. @param {Array<string>} keys */
function useOf(keys) {
  const ofVideos = keys.some((key) => /_\d{6}_\d{6}$/.test(key));
  return ofVideos ? "for ks-build --clips" : "keys of a data set's files, to filter its manifest by; not for ks-build --clips";
}

/** @param {string} text of an address, which anybody may have written */
function safelyDecoded(text) {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    if (error instanceof URIError) return text;
    throw error;
  }
}

/** Links to the parts of a long page. @param {Element} main */
function partsOf(main) {
  const links = [...main.querySelectorAll("section h2[id]")].filter((heading) => !heading.closest("[hidden]")).map((heading) => {
    const onclick = (event) => {
      event.preventDefault(); // the address stays that of a clip
      heading.tabIndex = -1;
      heading.scrollIntoView();
      heading.focus({ preventScroll: true });
    };
    return make("a", { href: `#${heading.id}`, text: heading.textContent, onclick });
  });
  return make("nav", { class: "parts", "aria-label": "parts of this page" }, ...links);
}

async function start() {
  const told = carried("document");
  const main = document.getElementById("main");
  const parts = [];
  let view = null;
  if (told.count) {
    const table = new Table(await Promise.all(told.columns.map(unpack)), told.count);
    view = new ClipsView(table, carried("media"), told.findings);
    view.update();
    parts.push(...view.elements());
    addEventListener("hashchange", () => view.follow());
    addEventListener("popstate", () => view.follow());
    addEventListener("keydown", (event) => view.keys(event));
    main.replaceChildren(...parts);
    view.follow();
  }
  if (told.runs.length) {
    document.querySelector("h1").after(...mainScores(told.runs), ...told.notes.map((text) => make("p", { text })), ...scoresWords(told.runs));
    main.append(...runSections(told.runs, view, told.settings_left));
    main.before(partsOf(main));
  }
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

start();
