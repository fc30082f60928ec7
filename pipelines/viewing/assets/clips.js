"use strict";
// Clips: cards with a player and the mel-spectrogram, a table of the same, and one clip by itself.

const CARDS = 24; // a page of the grid
const LINES = 100; // a page of the table

/** Players and mels of the rows of a table. */
class Clips {
  /** @param {Table} table @param {Array<{row: number, video: string, mel: ?string}>} media embedded clips */
  constructor(table, media) {
    this.table = table;
    this.media = new Map(media.map((each) => [each.row, each]));
  }

  /** A card: player, mel, and what is most asked of a clip. */
  card(row) {
    const { table } = this;
    const key = table.text("key", row);
    const flags = table.text("flags", row);
    const facts = [table.text("split", row), table.text("status", row), table.text("duration_seconds", row)];
    return make(
      "article",
      { class: "card", "aria-label": `${table.text("label", row)}, ${key}` },
      ...this.player(row),
      make("p", { class: "label", text: table.text("label", row) || "(no class told)" }),
      make("p", { class: "key" }, make("a", { href: `#key=${encodeURIComponent(key)}`, text: key })),
      make("p", { class: "facts", text: facts.filter(Boolean).join(" · ") }),
      ...(flags ? [make("p", { class: "flag", text: flags })] : []),
    );
  }

  /** What can be seen and heard of a row. */
  player(row) {
    const { table } = this;
    const embedded = this.media.get(row);
    const source = embedded ? embedded.video : table.file(row);
    if (!source) {
      const detail = table.text("detail", row);
      const why = make("span", { text: detail || (table.text("status", row) === "ok" ? "not in this page" : "no clip") });
      return [make("div", { class: "nothing" }, make("b", { text: table.text("status", row) }), why)];
    }
    const video = make("video", { controls: true, playsInline: true, preload: embedded ? "auto" : "metadata", src: source });
    video.setAttribute("aria-label", `clip ${table.text("key", row)}`);
    const gone = () => video.replaceWith(make("div", { class: "nothing" }, make("b", { text: "cannot be played" }), place));
    const place = make("span", { text: embedded ? "this browser cannot" : `looked for ${decodeURIComponent(source)}` });
    video.addEventListener("error", gone, { once: true });
    return embedded?.mel ? [video, this.mel(video, embedded.mel, row)] : [video];
  }

  /** The picture of the sound, with a line where the player is; a click on it goes there. */
  mel(video, source, row) {
    const image = make("img", { src: source, alt: `mel-spectrogram of ${this.table.text("key", row)}` });
    const line = make("span", { class: "playhead", "aria-hidden": "true" });
    const box = make("div", { class: "mel" }, image, line);
    const move = () => {
      line.style.left = `${(100 * video.currentTime) / (video.duration || 1)}%`;
      if (!video.paused && !video.ended) requestAnimationFrame(move);
    };
    for (const name of ["play", "seeked", "timeupdate", "ended"]) video.addEventListener(name, move);
    box.addEventListener("click", (event) => {
      const { left, width } = box.getBoundingClientRect();
      if (video.duration) video.currentTime = (video.duration * (event.clientX - left)) / width;
    });
    return box;
  }

  /** Everything that is known of a row, with its player. */
  whole(row, close) {
    const { table } = this;
    const terms = [];
    for (const column of table.columns.values()) {
      const text = column.name === "file" ? decodeURIComponent(table.file(row)) : table.text(column.name, row);
      if (text) terms.push(make("dt", { text: column.title }), make("dd", { text }));
    }
    const heading = make("h2", { id: "clip-title", text: table.text("label", row) || table.text("key", row), tabIndex: -1 });
    const button = make("button", { type: "button", text: "Close", onclick: close });
    return [
      make("div", { class: "top" }, heading, button),
      make("div", { class: "whole" }, make("div", {}, ...this.player(row)), make("dl", {}, ...terms)),
    ];
  }
}

/** The rows that pass the filters, a page at a time: as cards or as a table, in an order of the reader's. */
class Listing {
  /** @param {Clips} clips @param {function(): void} changed called when the reader chose another order */
  constructor(clips, changed) {
    const playable = clips.table.columns.get("where").values.some((where) => where !== "none");
    Object.assign(this, { clips, table: clips.table, rows: new Uint32Array(0), page: 0, asTable: !playable });
    this.body = make("div", { class: "listing" });
    this.where = make("span", { class: "where", "aria-live": "polite" });
    this.back = make("button", { type: "button", text: "Previous", onclick: () => this.turn(-1) });
    this.next = make("button", { type: "button", text: "Next", onclick: () => this.turn(1) });
    const reorder = () => {
      this.sequence = this.ordered();
      changed();
    };
    this.order = make("select", { id: "order", onchange: reorder }, ...this.orders());
    this.sequence = this.ordered(); // all rows in the chosen order
    const how = ["cards", "table"].map((name) => {
      const onclick = () => {
        this.asTable = name === "table";
        for (const each of how) each.setAttribute("aria-pressed", String(each === button));
        this.page = 0;
        this.draw();
      };
      const button = make("button", { type: "button", text: name, onclick, "aria-pressed": String(this.asTable === (name === "table")) });
      return button;
    });
    const kind = make("div", { class: "choice", role: "group", "aria-label": "show as" }, ...how);
    const order = make("label", { for: "order", text: "order" });
    const turn = make("nav", { class: "turn", "aria-label": "pages of clips" }, this.back, this.where, this.next);
    this.element = make("div", {}, make("div", { class: "how" }, kind, make("div", {}, order, this.order)), this.body, turn);
  }

  orders() {
    const first = this.clips.media.size ? "embedded first" : "as in the data";
    const options = [make("option", { value: "", text: first }), make("option", { value: "key", text: "key" })];
    for (const column of this.table.columns.values()) {
      if (column.kind !== "number") continue;
      options.push(make("option", { value: `${column.name} 1`, text: `${column.title}, lowest first` }));
      options.push(make("option", { value: `${column.name} -1`, text: `${column.title}, highest first` }));
    }
    return options;
  }

  /** Show these rows, in this order. @param {Uint32Array} rows */
  show(rows) {
    this.rows = rows;
    this.page = 0;
    this.draw();
  }

  /** All rows in the order that the reader chose. @returns {Uint32Array} */
  ordered() {
    const { media } = this.clips;
    const rows = Uint32Array.from({ length: this.table.count }, (_, row) => row);
    const [name, sign] = this.order.value.split(" ");
    if (!name) return Uint32Array.from([...media.keys(), ...rows.filter((row) => !media.has(row))]);
    const { data } = this.table.columns.get(name);
    if (name === "key") return rows.sort((a, b) => (data[a] < data[b] ? -1 : data[a] > data[b] ? 1 : a - b));
    const last = (value) => (Number.isNaN(value) ? Infinity : value * Number(sign));
    return rows.sort((a, b) => (last(data[a]) === last(data[b]) ? a - b : last(data[a]) - last(data[b])));
  }

  get size() {
    return this.asTable ? LINES : CARDS;
  }

  turn(by) {
    this.page += by;
    this.draw();
    this.element.scrollIntoView();
  }

  draw() {
    const from = this.page * this.size;
    const rows = [...this.rows.subarray(from, from + this.size)];
    this.body.replaceChildren(this.asTable ? this.lines(rows) : make("div", { class: "cards" }, ...rows.map((row) => this.clips.card(row))));
    const last = Math.min(from + this.size, this.rows.length);
    this.where.textContent = rows.length ? `${count(from + 1)} to ${count(last)} of ${count(this.rows.length)}` : "no clip passes the filters";
    this.back.disabled = this.page === 0;
    this.next.disabled = last >= this.rows.length;
  }

  lines(rows) {
    const columns = [...this.table.columns.values()].filter((column) => !["file", "origin", "detail", "where"].includes(column.name));
    const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col", text: column.title })));
    const body = rows.map((row) =>
      make(
        "tr",
        {},
        ...columns.map((column) => {
          const text = this.table.text(column.name, row);
          if (column.name === "key") return make("td", {}, make("a", { href: `#key=${encodeURIComponent(text)}`, text }));
          return make("td", { class: column.kind === "number" ? "number" : undefined, text });
        }),
      ),
    );
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
    return make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "table of clips" }, table);
  }
}

/** The CSV of some rows that `ks-build --clips` reads. @param {Table} table @param {Uint32Array} rows */
function csvOf(table, rows) {
  const plain = (text) => (/^'*[=+@\t\n-]/.test(text) ? `'${text}` : text);
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = ["key,label,split"];
  for (const row of rows) {
    const [key, label, split] = ["key", "label", "split"].map((name) => table.text(name, row));
    // A video's ID may begin with a dash, and is no formula if it has nothing but letters, digits, dashes and underscores.
    lines.push([/^[\w-]+$/.test(key) ? key : plain(key), plain(label), plain(split)].map(cell).join(","));
  }
  return `${lines.join("\n")}\n`;
}
