"use strict";
// Runs: curves, results beside those of untrained encoders, bad samples, neighbours and maps; several side by side.

const COLOURS = ["--run-0", "--run-1", "--run-2", "--run-3", "--run-4", "--run-5"];
const CURVES = {
  loss: "what training minimises",
  cgra: "AVCL's loss between channels of the two encoders",
  selfcl: "AVCL's contrastive loss between clips",
  dead_channels: "share of channels that are zero for the whole batch",
  lr: "learning rate",
  epoch: "passes over the training split",
  decode_ms_p50: "decoding of a sample, median, milliseconds",
  decode_ms_p95: "decoding of a sample, 95th percentile, milliseconds",
  read_ms_p50: "reading of a sample, median, milliseconds",
  read_ms_p95: "reading of a sample, 95th percentile, milliseconds",
  queue_depth: "batches that wait, loaded, for the trainer",
  bad_samples: "samples that could not be read, so far",
  samples_per_second: "training speed",
  data_wait_share: "share of the time that the trainer waits for data",
  mfu: "model FLOPs utilization of the device",
  grad_norm: "L2 norm of the gradients",
}; // metrics of metrics.jsonl in words
const PROBES = {
  linear: "a linear classifier of the frozen encoders' features names the right class (top1)",
  svm: "a linear support vector machine on the frozen encoders' features names the right class (top1)",
  knn: "a vote of the nearest training clips, by the frozen encoders' features, names the right class (top1)",
  retrieval: "a training clip of the right class is among the k nearest (r1, r5 and so on)",
  crossmodal: "of all these clips' sounds, a clip's own is among the k nearest to its picture (r1: k is 1, and so on)",
  cluster: "clusters of the features, found without labels, match the classes (nmi, acc)",
  finetune: "the encoders, trained further with labels, name the right class (top1)",
}; // when a clip counts as right
const NEAR = 6; // clips whose neighbours are shown before "more"

/**
 * @param {Array<Object>} runs @param {?ClipsView} view the page's clips, to which keys lead
 * @param {number} settingsLeft in which runs differ, beside those shown @returns {Array<Element>}
 */
function runSections(runs, view, settingsLeft) {
  const keyed = (key) => (view ? make("a", { href: `#key=${encodeURIComponent(key)}`, text: key }) : make("span", { text: key }));
  const parts = [runsTable(runs, settingsLeft), curvesSection(runs), resultsSection(runs), mapsSection(runs, keyed), neighboursSection(runs, keyed, view), badSection(runs)];
  return parts.filter(Boolean);
}

function section(id, title, ...children) {
  return make("section", { "aria-labelledby": id }, make("h2", { id, text: title }), ...children);
}

function scrolled(label, head, rows, aligned = "number") {
  const cells = (tag, texts) => texts.map((text, n) => make(tag, { class: n ? aligned : undefined, scope: tag === "th" ? "col" : undefined }, ...[text].flat()));
  const body = rows.map((texts) => make("tr", {}, ...cells("td", texts)));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...cells("th", head))), make("tbody", {}, ...body));
  return make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, table);
}

function runsTable(runs, settingsLeft) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.facts)))].filter((name) => name !== "note");
  const settings = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const rows = [
    ...names.map((name) => [name.replaceAll("_", " "), ...runs.map((run) => run.facts[name] || "")]),
    ...settings.map((name) => [name, ...runs.map((run) => run.settings[name] ?? "")]),
  ];
  const notes = [...new Set(runs.map((run) => run.facts.note).filter(Boolean))].map((note) => make("p", { text: `Note: ${note}` }));
  const left = settingsLeft ? [make("p", { text: `${count(settingsLeft)} more settings differ; see the config.yaml of each.` })] : [];
  return section("runs-title", runs.length > 1 ? "Runs" : "Run", scrolled("table of runs", ["setting", ...runs.map((run) => run.name)], rows), ...left, ...notes);
}

function curvesSection(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  const without = runs.filter((run) => !Object.keys(run.curves).length).map((run) => {
    const why = run.published ? "a published run, without its metrics." : "no metrics were written yet.";
    return make("p", { text: `${run.name}: ${why}` });
  });
  if (!names.length) return section("curves-title", "Curves", ...without);
  const figures = names.map((name) => curveFigure(name, runs));
  const key = make("ul", { class: "legend" }, ...runs.map((run, n) => make("li", { class: `run-${n % COLOURS.length}`, text: run.name })));
  return section("curves-title", "Curves", ...(runs.length > 1 ? [key] : []), ...without, make("div", { class: "curves" }, ...figures));
}

/** One metric of all runs that have it, by step. */
function curveFigure(name, runs) {
  const having = runs.map((run, place) => ({ place, run, curve: run.curves[name] })).filter((each) => each.curve);
  const lasts = having.map(({ run, curve }) => {
    const last = curve.values.findLast((value) => value !== null);
    return `${runs.length > 1 ? `${run.name}: ` : ""}${last === undefined ? "not finite" : number(last)}`;
  });
  const box = make("div", { class: "plot", role: "img", "aria-label": `${name} by step; last ${lasts.join(", ")}` });
  const caption = make("figcaption", {}, make("b", { text: name.replaceAll("_", " ") }), make("span", { text: lasts.join(", ") }));
  const notes = [...(Object.hasOwn(CURVES, name) ? [CURVES[name]] : []), ...having.flatMap(({ run, curve }) => curveNotes(run, curve))];
  const figure = make("figure", {}, caption, ...notes.map((text) => make("small", { text })), box);
  const data = uPlot.join(having.map(({ curve }) => [curve.steps, curve.values]), having.map(() => [1]));
  new ResizeObserver(() => drawCurve(box, data, having)).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => box.plot?.redraw(false));
  return figure;
}

function curveNotes(run, curve) {
  const gone = curve.values.filter((value) => value === null).length;
  const notes = [];
  if (gone) notes.push(`${run.name}: ${count(gone)} of ${count(curve.values.length)} values are not finite, left out`);
  if (curve.every > 1) notes.push(`${run.name}: every ${curve.every}th of its lines is drawn`);
  return notes;
}

function drawCurve(box, data, having) {
  const width = Math.floor(box.clientWidth);
  if (!width) return;
  if (box.plot) {
    if (box.plot.width !== width) box.plot.setSize({ width, height: 190 });
    return;
  }
  const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const values = (_, splits) => splits.map(number);
  const series = having.map(({ place, run }) => ({ label: run.name, stroke: colour(COLOURS[place % COLOURS.length]), width: 1.8, points: { show: data[0].length < 3 }, spanGaps: true }));
  const axes = [{ ...axis, label: "step", labelSize: 20, size: 34, values }, { ...axis, size: 56, values }];
  const options = { width, height: 190, scales: { x: { time: false }, y: { range: rangeOf } }, axes, series: [{}, ...series], legend: { show: false }, cursor: { drag: { x: true, y: false } } };
  box.plot = new uPlot(options, data, box);
}

/** The ends of an axis; one of equal values has them in its middle, or at its foot if they are zero. */
function rangeOf(_, low, high) {
  if (low !== high) return uPlot.rangeNum(low, high, 0.1, true);
  return low === 0 ? [0, 1] : [low - Math.abs(low) / 2, low + Math.abs(low) / 2];
}

/** Four digits, without an exponent where people would not write one. */
function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e12) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return size < 1e-4 || size >= 1e12 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** A score with one decimal; with four digits only if one decimal would make it 0. */
function score(value) {
  return value !== 0 && Math.abs(value) < 0.05 ? number(value) : value.toFixed(1);
}

/** A value that was chosen, or a yes or no. */
function chosenValue(value, metric) {
  return metric === "selected_on_test" ? (value ? "yes" : "no") : number(value);
}

/** Every metric of a result of its own clips and settings; the main one of each first. @returns {Array<Object>} */
function kindsOf(runs) {
  const kinds = new Map();
  for (const run of runs)
    for (const { probe, split, basis, clips, scores, main, differs, chosen } of run.results)
      for (const metric of new Set([main, ...Object.keys(scores)])) {
        const [, base, end] = /^(.*)_(low|high|chance)$/.exec(metric) || [];
        if (!metric || end === "chance" || ((end === "low" || end === "high") && base in scores)) continue;
        kinds.set(JSON.stringify([probe, split, basis, metric]), { probe, split, basis, clips, metric, differs, isMain: metric === main, isChosen: chosen.includes(metric) });
      }
  return [...kinds.values()];
}

/** Tables of metrics, one for all that the same runs have. @returns {Array<Element>} */
function scoresTables(label, runs, kinds, format) {
  const groups = new Map();
  for (const kind of kinds) {
    const having = runs.map((run) => run.results.some((result) => isOf(result, kind)));
    groups.set(String(having), [...(groups.get(String(having)) ?? []), kind]);
  }
  return [...groups.values()].map((group, n) => scoresTable(n ? `${label}, ${n + 1}` : label, runs, group, format));
}

/** A table of metrics: guessing, untrained and trained encoders; without the columns that nothing stands in. */
function scoresTable(label, runs, kinds, format) {
  const places = kinds.map(({ split, clips }) => ` (${[split, ...(clips === null ? [] : [`${count(clips)} clips`])].join(", ")})`);
  const same = new Set(places).size === 1; // said once then, in the head
  const ways = runs.flatMap((run) => [true, false].map((untrained) => ({ run, untrained })));
  const columns = [
    { title: "guessing", texts: kinds.map((kind) => chanceOf(runs, kind, format)) },
    ...ways.map(({ run, untrained }) => ({
      title: `${runs.length > 1 ? `${run.name}, ` : ""}${untrained ? "untrained" : "trained"}`,
      texts: kinds.map((kind) => scoreOf(run, kind, untrained, format)),
    })),
  ].filter(({ texts }) => texts.some(Boolean));
  const named = (kind) => `${kind.probe} ${kind.metric.replaceAll("_", " ")}${kind.differs ? `, ${kind.differs}` : ""}`;
  const rows = kinds.map((kind, n) => [`${named(kind)}${same ? "" : places[n]}`, ...columns.map(({ texts }) => texts[n])]);
  return scrolled(label, [same ? `metric${places[0]}` : "metric", ...columns.map(({ title }) => title)], rows);
}

/** The main score of each probe with its interval, for the top of the page. @returns {Array<Element>} */
function mainScores(runs) {
  const kinds = kindsOf(runs).filter((kind) => kind.isMain);
  return scoresTables("main results", runs, kinds, { digits: score });
}

/** What the main scores and their columns are. @returns {Array<Element>} */
function scoresWords(runs) {
  const kinds = kindsOf(runs).filter((kind) => kind.isMain);
  if (!kinds.length) return [];
  const columns = [];
  if (kinds.some((kind) => chanceOf(runs, kind, { digits: String }))) columns.push("guessing: by chance");
  if (runs.some((run) => run.results.some(({ untrained }) => untrained))) columns.push("untrained: the same encoders before training");
  const names = [...new Set(kinds.map((kind) => kind.probe))].filter((name) => Object.hasOwn(PROBES, name));
  const intervals = runs.some((run) => run.results.some(({ main, scores }) => `${main}_low` in scores));
  const lines = [`Percent${intervals ? ", with 95% intervals" : ""}.${columns.length ? ` ${columns.join("; ")}.` : ""}`, ...names.map((name) => `${name}: ${PROBES[name]}.`)];
  return lines.map((text) => make("p", { class: "words", text }));
}

/** Scores of all runs, with their intervals, beside those of the untrained encoders and of guessing. */
function resultsSection(runs) {
  const without = runs.filter((run) => !run.results.length).map((run) => {
    const command = make("code", { text: `ks-eval linear knn crossmodal --run ${run.name}` });
    return make("p", { text: `${runs.length > 1 ? `${run.name}: none` : "None"} yet; make them with ` }, command);
  });
  const kinds = kindsOf(runs);
  if (!kinds.length) return section("results-title", "Results", ...without);
  const told = make("p", { text: "Percent where a metric is a share; in brackets 95% intervals over the judged items. Scores in a row are of the same clips and settings, which are named where rows of a probe differ in them. Untrained encoders are not at chance: a random network already sees motion energy and spectra." });
  const easy = kinds.filter((kind) => isEasy(runs, kind));
  const hidden = make("details", {}, make("summary", { text: "top5, left out above because guessing is right half of the time or more" }), ...scoresTables("table of top5", runs, easy, { digits: score }));
  const shown = scoresTables("table of results", runs, kinds.filter((kind) => !easy.includes(kind) && !kind.isChosen), { digits: score });
  const chosen = scoresTables("table of chosen values", runs, kinds.filter(({ isChosen }) => isChosen), { digits: chosenValue });
  const values = chosen.length ? [make("p", { text: "Values that were chosen, not percent; selected on test: whether the evaluated clips chose them." })] : [];
  return section("results-title", "Results", told, ...without, ...shown, ...(easy.length ? [hidden] : []), ...values, ...chosen);
}

/** Whether it is a top5 that guessing reaches half of the time or more, which says little. */
function isEasy(runs, kind) {
  return kind.metric.endsWith("top5") && Number(chanceOf(runs, kind, { digits: String })) >= 50;
}

/** Whether a result is of the same probe, and of the same clips and settings. */
function isOf(result, kind) {
  return result.probe === kind.probe && result.split === kind.split && result.basis === kind.basis;
}

function scoreOf(run, kind, untrained, { digits }) {
  const found = run.results.find((each) => isOf(each, kind) && each.untrained === untrained && kind.metric in each.scores);
  if (!found) return "";
  const { scores, old_step: step } = found;
  const [low, high] = [scores[`${kind.metric}_low`], scores[`${kind.metric}_high`]];
  const interval = low === undefined || high === undefined ? [] : [" ", make("span", { class: "interval", text: `(${digits(low)}\u2013${digits(high)})` })];
  return [digits(scores[kind.metric], kind.metric), ...interval, step === null ? "" : `, at step ${count(step)}`];
}

/** What guessing reaches: `top1_chance` of `top1`, `r10_chance` of `video_to_audio_r10`. */
function chanceOf(runs, kind, { digits }) {
  for (const run of runs)
    for (const result of run.results)
      for (const each of [kind.metric, kind.metric.split("_").at(-1)])
        if (isOf(result, kind) && `${each}_chance` in result.scores) return digits(result.scores[`${each}_chance`]);
  return "";
}

function mapsSection(runs, keyed) {
  const figures = runs.flatMap((run) =>
    run.maps.map((map) => {
      const told = [map.label, map.score === null ? "" : `score ${number(map.score)}`, runs.length > 1 ? run.name : ""];
      const image = make("img", { src: map.image, alt: `Grad-CAM of ${map.key}: frames and mel above, the same under the map below` });
      const caption = make("figcaption", {}, make("b", { text: told.filter(Boolean).join(" · ") }), keyed(map.key));
      return make("figure", { class: "map" }, image, caption);
    }),
  );
  const without = runs.filter((run) => !run.map_count).map((run) => make("p", { text: `${run.name}: none yet; make them with ` }, make("code", { text: `ks-eval cam --run ${run.name}` })));
  const about = make("p", { text: "What the encoders look at (Grad-CAM): frames and mel-spectrogram, and below them the same where bright is where the score comes from." });
  return section("maps-title", "Maps", ...(figures.length ? [about] : []), ...without, make("div", { class: "maps" }, ...figures));
}

/** What lies nearest to a clip in the other modality. */
function neighboursSection(runs, keyed, view) {
  const lists = runs.flatMap((run) => (run.neighbours ?? []).map((query) => neighboursItem(query, runs.length > 1 ? run.name : "", keyed, view)));
  const without = runs.filter((run) => !run.neighbours).map((run) => make("p", { text: `${run.name}: none yet; make them with ` }, make("code", { text: `ks-eval crossmodal --run ${run.name}` })));
  const about = make("p", { text: "For a clip's picture the sounds that lie nearest, by cosine of the features, and for its sound the pictures. Its own other half is marked." });
  const more = make("details", {}, make("summary", { text: `${count(lists.length - NEAR)} more` }), make("ul", { class: "near" }, ...lists.slice(NEAR)));
  const first = make("ul", { class: "near" }, ...lists.slice(0, NEAR));
  return section("near-title", "Nearest neighbours", ...(lists.length ? [about] : []), ...without, first, ...(lists.length > NEAR ? [more] : []));
}

function neighboursItem(query, run, keyed, view) {
  const side = (title, found) =>
    make("div", {}, make("h3", { text: title }), make("ol", {}, ...found.map(({ key, label, cosine }) =>
      make("li", { class: key === query.key ? "own" : undefined }, keyed(key), ` ${label} · ${cosine.toFixed(2)}${key === query.key ? " · its own" : ""}`))));
  return make("li", {}, make("p", {}, make("b", { text: query.label }), " ", keyed(query.key), run ? ` · ${run}` : ""),
    make("div", { class: "sides" }, side("its picture finds these sounds", query.sounds), side("its sound finds these pictures", query.pictures)),
    ...(view ? [cardsOf([query, ...query.sounds, ...query.pictures].map(({ key }) => key), view)] : []));
}

/** The clips of some keys, drawn when they are asked for. */
function cardsOf(keys, view) {
  const cards = make("div", { class: "cards" });
  const ontoggle = () => {
    if (cards.childElementCount) return;
    const rows = [...new Set(keys)].map((key) => view.table.find(key)).filter((row) => row >= 0);
    cards.append(...rows.map((row) => view.clips.card(row)));
  };
  return make("details", { ontoggle }, make("summary", { text: "play these clips" }), cards);
}

function badSection(all) {
  const runs = all.filter((run) => !run.published); // a published run does not tell of them
  if (!runs.length) return null;
  const rows = runs.flatMap((run) => run.bad.map(({ key, reason }) => [key, reason, run.name]));
  const total = runs.reduce((sum, run) => sum + run.bad_count, 0);
  if (!total) return section("bad-title", "Bad samples", make("p", { text: "None: every sample that was asked for could be read." }));
  return section("bad-title", `Bad samples: ${count(total)}`, scrolled("table of bad samples", ["key", "reason", "run"], rows, ""));
}
