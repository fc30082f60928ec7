"use strict";
// Filters: each column's bars count the rows that pass all other filters, and pressing a bar filters by it.

const OPEN = 12; // bars of a group that are shown before "show all"

/** What is counted of one column: a code a row (its value, its bin), or bits of flags. */
class Dimension {
  /** @param {Object} column unpacked @param {number} place a bit of its own in every row's `fails` */
  constructor(column, place) {
    this.column = column;
    this.bit = 1 << place;
    this.chosen = new Set();
    this.isFlags = column.kind === "flags";
    if (column.kind === "number") {
      this.size = column.bins.count;
      this.codes = binned(column);
    } else {
      this.size = column.values.length;
      this.codes = column.data;
    }
  }

  /** For each code whether it passes; null where all do. */
  passing() {
    if (!this.chosen.size) return null;
    const passes = new Uint8Array(this.isFlags ? 1 << this.size : this.size + 1);
    if (!this.isFlags) for (const code of this.chosen) passes[code] = 1;
    else for (let bits = 0; bits < passes.length; bits++) passes[bits] = [...this.chosen].some((b) => bits & (1 << b)) ? 1 : 0;
    return passes;
  }

  /** What a bar stands for. */
  name(code) {
    if (this.column.kind !== "number") return this.column.values[code] || "(not told)";
    const { low, step, below, above, count: bins } = this.column.bins;
    const digits = this.column.digits;
    const from = shortNumber(low + code * step, digits);
    const to = shortNumber(low + (code + 1) * step, digits);
    const unit = this.column.unit ? ` ${this.column.unit}` : "";
    if (below && code === 0) return `below ${to}${unit}`;
    if (above && code === bins - 1) return `${from}${unit} and more`;
    return step < 1.5 * 10 ** -digits ? `${from}${unit}` : `${from} to ${to}${unit}`;
  }
}

/** The bin of each row of a column of numbers; `bins.count` where it has no number. */
function binned(column) {
  const { low, step, count: bins } = column.bins;
  const codes = new Uint8Array(column.data.length);
  for (let row = 0; row < codes.length; row++) {
    const value = column.data[row];
    const place = Math.floor((value - low) / step + 1e-6);
    codes[row] = Number.isNaN(value) ? bins : Math.min(bins - 1, Math.max(0, place));
  }
  return codes;
}

/** Marks the lines that have a text. @param {string} lines @param {string} text @param {Uint8Array} found by line */
function findLines(lines, text, found) {
  const endOf = (from) => {
    const at = lines.indexOf("\n", from);
    return at < 0 ? lines.length : at;
  };
  let row = 0;
  let end = endOf(0); // of the line `row`
  for (let at = lines.indexOf(text); at >= 0; at = lines.indexOf(text, end)) {
    for (; end < at; row++) end = endOf(end + 1);
    found[row] = 1;
  }
}

/** All filters together. A row is shown where no bit of `fails` is set. */
class Filters {
  /** @param {Table} table */
  constructor(table) {
    this.table = table;
    this.fails = new Uint32Array(table.count);
    this.dimensions = [];
    this.search = { bit: 1, text: "" };
    for (const column of table.columns.values()) {
      const has = column.kind === "number" ? column.bins : column.kind !== "text" && column.name !== "file";
      if (has) this.dimensions.push(new Dimension(column, this.dimensions.length + 1));
    }
    this.ok = table.columns.get("status")?.values.indexOf("ok") ?? -1;
  }

  get active() {
    return this.search.text !== "" || this.dimensions.some((dimension) => dimension.chosen.size);
  }

  /** Press a bar, or let go of it. */
  toggle(dimension, code) {
    if (!dimension.chosen.delete(code)) dimension.chosen.add(code);
    this.apply(dimension);
  }

  clear() {
    for (const dimension of this.dimensions) {
      dimension.chosen.clear();
      this.apply(dimension);
    }
    this.find("");
  }

  apply(dimension) {
    const { fails } = this;
    const { bit, codes } = dimension;
    const passes = dimension.passing();
    if (!passes) for (let row = 0; row < fails.length; row++) fails[row] &= ~bit;
    else for (let row = 0; row < fails.length; row++) fails[row] = passes[codes[row]] ? fails[row] & ~bit : fails[row] | bit;
  }

  /** Only rows that have each word of this text, or "several words" in quotes, in letters of either size: in key, class, labels, origin or message, or as the split. */
  find(text) {
    const { fails, search, table } = this;
    search.text = text.trim().toLowerCase();
    const [label, split] = ["label", "split"].map((name) => table.columns.get(name));
    const lines = ["key", "labels", "origin", "detail"].filter((name) => table.columns.has(name)).map((name) => table.columns.get(name).lower);
    const lacking = new Uint8Array(fails.length);
    for (const [, quoted, bare] of search.text.matchAll(/"([^"]+)"?|([^\s"]+)/g)) {
      const word = quoted ?? bare;
      const found = new Uint8Array(fails.length);
      for (const each of lines) findLines(each, word, found);
      const named = label.values.map((value) => value.toLowerCase().includes(word));
      const placed = split.values.map((value) => value.toLowerCase() === word);
      for (let row = 0; row < fails.length; row++) if (!found[row] && !named[label.data[row]] && !placed[split.data[row]]) lacking[row] = 1;
    }
    for (let row = 0; row < fails.length; row++) fails[row] = lacking[row] ? fails[row] | search.bit : fails[row] & ~search.bit;
  }

  /** The rows that are shown, in an order of all rows. @param {Uint32Array} order @returns {Uint32Array} */
  shown(order) {
    const rows = new Uint32Array(order.length);
    let length = 0;
    for (const row of order) if (!this.fails[row]) rows[length++] = row;
    return rows.subarray(0, length);
  }

  /** Of each bar of a dimension how many rows pass all other filters, and how many of those are ok. */
  counts(dimension) {
    const all = new Uint32Array(dimension.size + 1);
    const ok = new Uint32Array(dimension.size + 1);
    const { codes, bit, isFlags, size } = dimension;
    const status = this.table.columns.get("status").data;
    for (let row = 0; row < codes.length; row++) {
      if (this.fails[row] & ~bit) continue;
      const code = codes[row];
      const good = status[row] === this.ok ? 1 : 0;
      if (!isFlags) {
        all[code]++;
        ok[code] += good;
      } else
        for (let flag = 0; flag < size; flag++) {
          if (!(code & (1 << flag))) continue;
          all[flag]++;
          ok[flag] += good;
        }
    }
    return { all, ok };
  }
}

/** The bars of one dimension: a list of names, or a histogram. */
class Bars {
  /** @param {Filters} filters @param {Dimension} dimension @param {function(): void} changed */
  constructor(filters, dimension, changed) {
    Object.assign(this, { filters, dimension });
    this.isHistogram = dimension.column.kind === "number" && dimension.size > 1;
    this.most = Math.max(1, ...filters.counts(dimension).all.subarray(0, dimension.size));
    this.bars = Array.from({ length: dimension.size }, (_, code) => this.bar(code, changed));
    const list = make("div", { class: this.isHistogram ? "histogram" : "bars" }, ...this.bars.map((bar) => bar.button));
    const heading = make("h3", { id: `bars-${dimension.column.name}`, text: dimension.column.title });
    this.element = make("section", { class: "group", role: "group", "aria-labelledby": heading.id }, heading, list);
    if (this.isHistogram) this.element.append(this.axis());
    else if (dimension.size > OPEN + 2) this.element.append(this.more(list));
  }

  bar(code, changed) {
    const fill = make("span", { class: "fill" });
    const good = make("span", { class: "good" });
    const name = make("span", { class: "name", text: this.dimension.name(code) });
    const number = make("span", { class: "count" });
    const onclick = () => {
      this.filters.toggle(this.dimension, code);
      changed();
    };
    const button = make("button", { type: "button", class: "bar", onclick }, fill, good, name, number);
    return { button, fill, good, name, number };
  }

  /** The ends of the axis, and how many rows have no number. */
  axis() {
    const { column, size } = this.dimension;
    const { low, step, below, above } = column.bins;
    const [start, second, last, end] = [0, 1, size - 1, size].map((bin) => shortNumber(low + bin * step, column.digits));
    const missing = column.data.reduce((sum, value) => sum + (Number.isNaN(value) ? 1 : 0), 0);
    const unit = [column.unit, missing ? `${count(missing)} without` : ""].filter(Boolean).join(", ");
    return make(
      "p",
      { class: "axis" },
      make("span", { text: below ? `below ${second}` : start }),
      make("span", { text: unit }),
      make("span", { text: above ? `${last} and more` : end }),
    );
  }

  more(list) {
    list.classList.add("closed");
    const text = () => (list.classList.contains("closed") ? `show all ${this.dimension.size}` : "show fewer");
    const button = make("button", { type: "button", class: "plain", text: text(), "aria-expanded": "false" });
    button.onclick = () => {
      button.setAttribute("aria-expanded", String(!list.classList.toggle("closed")));
      button.textContent = text();
    };
    return button;
  }

  /** Show the counts of now. */
  update() {
    const { all, ok } = this.filters.counts(this.dimension);
    const told = this.dimension.column.name === "label" || this.dimension.column.name === "split";
    this.bars.forEach(({ button, fill, good, number }, code) => {
      const share = `${(100 * all[code]) / this.most}%`;
      const side = this.isHistogram ? "height" : "width";
      fill.style[side] = share;
      good.style[side] = told ? `${(100 * ok[code]) / this.most}%` : share;
      const text = told && ok[code] !== all[code] ? `${count(ok[code])} of ${count(all[code])}` : count(all[code]);
      number.textContent = text;
      const clips = `${text} ${all[code] === 1 ? "clip" : "clips"}${told && ok[code] !== all[code] ? " ok" : ""}`;
      button.setAttribute("aria-label", `${this.dimension.name(code)}: ${clips}`);
      button.title = `${this.dimension.name(code)}: ${clips}`;
      button.setAttribute("aria-pressed", String(this.dimension.chosen.has(code)));
    });
  }
}
