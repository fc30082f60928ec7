"use strict";
// The page's table: columns unpacked, and small helpers for the document. Every text enters it as text, never as HTML.

/**
 * A new element.
 * @param {string} tag
 * @param {Object<string, *>} [its] properties (`class`, `text`, `on*` functions) and, for names with a dash and `role`, attributes
 * @param {...(Node|string)} children
 */
function make(tag, its = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(its)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** The bytes that a packed column carries: base64 of zlib. @param {string} text @returns {Promise<ArrayBuffer>} */
function inflate(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let n = 0; n < letters.length; n++) bytes[n] = letters.charCodeAt(n);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

/** A packed column with its values as an array in `data`; of text, `lower` is all of it in lower case, a line a row. */
async function unpack(column) {
  const bytes = await inflate(column.data);
  if (column.kind === "text") {
    const text = new TextDecoder().decode(bytes);
    return { ...column, data: text.split("\n"), lower: text.toLowerCase() };
  }
  if (column.kind === "number") return { ...column, data: new Float32Array(bytes) };
  const Kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[column.kind === "flags" ? 2 : column.width];
  return { ...column, data: new Kind(bytes) };
}

/** The table of clips. */
class Table {
  /** @param {Array<Object>} columns unpacked @param {number} count of rows */
  constructor(columns, count) {
    this.columns = new Map(columns.map((column) => [column.name, column]));
    this.count = count;
  }

  /** The value of a row as text; empty where there is none. */
  text(name, row) {
    const column = this.columns.get(name);
    if (!column) return "";
    const value = column.data[row];
    if (column.kind === "words") return column.values[value];
    if (column.kind === "flags") return column.values.filter((_, bit) => value & (1 << bit)).join(", ");
    if (column.kind === "number") return Number.isNaN(value) ? "" : withUnit(value, column);
    return value;
  }

  /** Where a row's file lies, relative to the page; empty where it has none. */
  file(row) {
    const pattern = this.text("file", row);
    const path = pattern.replace("\0", () => this.text("key", row));
    return path.split("/").map(encodeURIComponent).join("/");
  }

  /** The first row of a key; -1 where there is none. */
  find(key) {
    const column = this.columns.get("key");
    return column ? column.data.indexOf(key) : -1;
  }
}

/** A number with its unit, in as many decimals as its column has at most. */
function withUnit(value, column) {
  const text = shortNumber(value, column.digits);
  return column.unit ? `${text} ${column.unit}` : text;
}

/** @param {number} value @param {number} digits decimals at most */
function shortNumber(value, digits) {
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** How many, for people: 1,234. */
function count(value) {
  return value.toLocaleString("en");
}
