// Make one row of what was drawn, dropped or typed, ask the model, and show what it and its members say.
"use strict";

addEventListener("DOMContentLoaded", () => {
  const facts = document.getElementById("model-facts");
  if (!facts) return;
  const model = JSON.parse(facts.textContent);
  const source = { image: imageSource, signal: signalSource, text: textSource, table: tableSource }[model.features](model);
  document.getElementById("predict").addEventListener("click", () => predict(model, source.row()));
  document.getElementById("clear")?.addEventListener("click", () => { source.clear(); forget(); });
  document.getElementById("sample")?.addEventListener("click", async () => {
    const offset = Math.floor(Math.random() * model.rows);
    try {
      const page = await callApi("GET", `/v1/datasets/${model.dataset}/rows?set=report&offset=${offset}&limit=1`);
      source.show(page.rows[0].x);
      predict(model, page.rows[0].x, page.rows[0].label ?? page.rows[0].y);
    } catch (error) { tellProblem(error); }
  });
  source.changed?.(() => predict(model, source.row()));
});

function forget() {
  document.getElementById("told").replaceChildren();
  document.getElementById("answer").replaceChildren(element("p", { className: "empty" }, "Nothing was asked yet."));
}

function tellProblem(error) {
  if (!(error instanceof ProblemError)) throw error;
  showProblem(document.getElementById("told"), error.problem);
}

async function predict(model, row, truth) {
  if (row === null) return;
  const wanted = model.ensemble ? { members: true, uncertainty: true } : {};
  try {
    const started = performance.now();
    const answer = await callApi("POST", model.url, { instances: [row], ...wanted });
    document.getElementById("told").replaceChildren();
    showAnswer(model, answer, performance.now() - started, truth);
  } catch (error) { tellProblem(error); }
}

function showAnswer(model, answer, milliseconds, truth) {
  const place = document.getElementById("answer");
  const prediction = answer.predictions[0];
  const facts = [`${answer.model}/${answer.version}, ${milliseconds.toFixed(0)} ms there and back`];
  if (truth !== undefined && truth !== null) facts.push(`the data set says ${truth}`);
  if (!model.classes.length) {
    const value = [prediction].flat()[0];
    place.replaceChildren(element("div", { className: "answer" }, Number(value).toPrecision(5)), element("p", { className: "soft" }, facts.join(" · ")));
    return;
  }
  const best = largest(prediction);
  place.replaceChildren(
    element("div", { className: "answer", id: "class" }, model.classes[best]),
    element("p", { className: "soft" }, [`${(100 * prediction[best]).toFixed(1)} %`, ...facts].join(" · ")),
    bars(model.classes, prediction),
  );
  if (answer.uncertainty) place.append(uncertainty(answer.uncertainty));
  if (answer.members) place.append(members(model, answer));
}

const largest = (values) => values.reduce((best, value, index) => (value > values[best] ? index : best), 0);

function bars(classes, shares) {
  const order = classes.map((name, index) => [name, shares[index]]).sort((a, b) => b[1] - a[1]).slice(0, 10);
  return element("div", { className: "bars" }, ...order.flatMap(([name, share]) => [
    element("span", {}, name),
    element("meter", { min: 0, max: 1, value: share, "aria-label": `${name}: ${(100 * share).toFixed(1)} %` }),
    element("span", { className: "right" }, `${(100 * share).toFixed(1)} %`),
  ]));
}

const UNCERTAINTY = {
  entropy: "entropy of the fused answer, nats",
  mean_member_entropy: "what the members do not know",
  mutual_information: "what they dispute",
  disagreement: "share of members that say otherwise",
};

function uncertainty(given) {
  const rows = Object.entries(UNCERTAINTY).filter(([name]) => name in given).map(([name, words]) =>
    element("tr", {}, element("td", {}, name.replaceAll("_", " ")), element("td", { className: "right" }, given[name][0].toFixed(3)), element("td", { className: "soft" }, words)));
  return element("div", {}, element("h3", {}, "Uncertainty"), element("table", {}, element("tbody", {}, ...rows)));
}

function members(model, answer) {
  const rows = answer.members.map((member, index) => {
    const shares = Array.isArray(member[0]) ? member[0] : member;
    const best = largest(shares);
    return element("tr", {},
      element("td", {}, model.members[index] ?? `member ${index + 1}`),
      element("td", { className: "name" }, model.classes[best]),
      element("td", {}, element("meter", { min: 0, max: 1, value: shares[best], "aria-label": "Its probability" })),
      element("td", { className: "right" }, `${(100 * shares[best]).toFixed(1)} %`));
  });
  return element("div", {}, element("h3", {}, "Members"), element("table", {}, element("tbody", {}, ...rows)));
}

// Images: drawn in white on black, cut out, and set as large as the data set's own are.
function imageSource(model) {
  const [height, width, channels] = model.shape;
  const canvas = document.getElementById("canvas");
  const seen = document.getElementById("seen").getContext("2d", { willReadFrequently: true });
  const peak = model.typical?.peak ?? 255;
  let row = null;
  let react = () => {};
  const keep = () => { row = readPixels(seen, height, width, channels, peak); };
  const pen = canvas && drawing(canvas, () => { cutOut(canvas, seen, height, width, model.typical); keep(); react(); });
  const open = async (file) => {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture) {
      showProblem(document.getElementById("told"), { title: "This is no image", detail: `${file.name} could not be read.`, hint: "PNG, JPEG, GIF and WebP can." });
      return;
    }
    seen.imageSmoothingQuality = "high";
    seen.drawImage(picture, 0, 0, width, height);
    keep();
    react();
  };
  dropping(open);
  return {
    row: () => row ?? (showProblem(document.getElementById("told"), { title: "There is nothing yet", detail: "Draw something, or drop an image." }), null),
    clear() { row = null; pen?.clear(); seen.clearRect(0, 0, width, height); },
    show(x) { pen?.clear(); writePixels(seen, x, height, width, channels, peak); row = x; },
    changed(act) { react = act; },
  };
}

function drawing(canvas, finished) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const clear = () => { context.fillStyle = "#000"; context.fillRect(0, 0, canvas.width, canvas.height); };
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 26, lineCap: "round", lineJoin: "round" });
  clear();
  let last = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
  };
  const line = (event) => {
    const here = at(event);
    context.beginPath();
    context.moveTo(...(last ?? here));
    context.lineTo(...here);
    context.stroke();
    last = here;
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); line(event); });
  canvas.addEventListener("pointermove", (event) => { if (last) line(event); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (last) { last = null; finished(); } });
  return { clear };
}

// What was drawn fills as much of the picture as rows of the data set do, and stands in its middle.
function cutOut(canvas, seen, height, width, typical) {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const box = inked(pixels);
  seen.fillStyle = "#000";
  seen.fillRect(0, 0, width, height);
  if (!box) return;
  const scale = Math.min(((typical?.height ?? 0.8) * height) / box.height, width / box.width);
  const [w, h] = [box.width * scale, box.height * scale];
  seen.imageSmoothingEnabled = true;
  seen.imageSmoothingQuality = "high";
  seen.drawImage(canvas, box.left, box.top, box.width, box.height, (width - w) / 2, (height - h) / 2, w, h);
}

function inked({ data, width, height }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[4 * (y * width + x)] > 60) {
        left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
    }
  }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

function readPixels(context, height, width, channels, peak) {
  const { data } = context.getImageData(0, 0, width, height);
  const value = (place, channel) => {
    const at = 4 * place;
    const light = channels === 1 ? 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2] : data[at + channel];
    return Math.round((light * peak) / 255);
  };
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => Array.from({ length: channels }, (_, channel) => value(y * width + x, channel))));
}

function writePixels(context, x, height, width, channels, peak) {
  const picture = context.createImageData(width, height);
  x.flat().forEach((pixel, place) => {
    for (let channel = 0; channel < 3; channel += 1) {
      picture.data[4 * place + channel] = (255 * pixel[channels === 1 ? 0 : channel]) / peak;
    }
    picture.data[4 * place + 3] = 255;
  });
  context.putImageData(picture, 0, 0);
}

// Sounds: read and brought to the data set's rate by the browser, cut or filled up to its length.
function signalSource(model) {
  const [steps, channels] = model.shape;
  const numbers = document.getElementById("numbers");
  const canvas = document.getElementById("seen");
  const problem = (detail, hint) => showProblem(document.getElementById("told"), { title: "This is no row", detail, hint });
  let row = null;
  let react = () => {};
  const keep = (values) => { row = values; drawWave(canvas, values.map((step) => step[0])); };
  const fit = (values) => Array.from({ length: steps }, (_, step) => Array(channels).fill(values[step] ?? 0));
  const open = async (file) => {
    if (!model.sampleRate) { numbers.value = await file.text(); row = null; react(); return; }
    try {
      const context = new OfflineAudioContext(1, 1, model.sampleRate);
      const sound = await context.decodeAudioData(await file.arrayBuffer());
      // Integer samples, as WAV files have them.
      keep(fit(Array.from(sound.getChannelData(0), (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767))));
      react();
    } catch { problem(`${file.name} could not be read as sound.`, "Use a PCM WAV file."); }
  };
  dropping(open);
  numbers.addEventListener("input", () => { row = null; });
  return {
    row() {
      if (row) return row;
      const values = numbers.value.split(/[\s,;]+/).filter(Boolean).map(Number);
      if (values.length !== steps || values.some(Number.isNaN)) {
        problem(`${values.length} numbers; the model takes ${steps}.`, "Drop a file, or paste numbers.");
        return null;
      }
      keep(values.map((value) => Array(channels).fill(value)));
      return row;
    },
    show: keep,
    changed(act) { react = act; },
  };
}

function drawWave(canvas, values) {
  const context = canvas.getContext("2d");
  const peak = Math.max(1e-9, ...values.map(Math.abs));
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  context.beginPath();
  values.forEach((value, step) => context.lineTo((step * canvas.width) / values.length, (1 - value / peak) * canvas.height / 2));
  context.stroke();
}

function textSource() {
  const text = document.getElementById("text");
  return { row: () => text.value, show(x) { text.value = x; } };
}

function tableSource(model) {
  const inputs = Array.from({ length: model.shape[0] }, (_, place) => document.getElementById(`column-${place}`));
  return {
    row: () => inputs.map((input) => (input.value === "" ? null : Number(input.value))),
    show(x) { inputs.forEach((input, place) => { input.value = Number(x[place].toPrecision(6)); }); },
  };
}

function dropping(open) {
  const drop = document.getElementById("drop");
  const input = document.getElementById("file");
  input?.addEventListener("change", () => { if (input.files[0]) open(input.files[0]); });
  for (const name of ["dragenter", "dragover"]) drop?.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) drop?.addEventListener(name, () => drop.classList.remove("over"));
  drop?.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]); });
}
