// Follow one job: its events come as they happen, and draw the bar, the curves and the log.
"use strict";

const COLORS = { light: ["#0b5fb0", "#b3530a"], dark: ["#6db3f8", "#f0a35c"] };
const LOSS = /loss|nll/;
const DRAW_MS = 250;

addEventListener("DOMContentLoaded", () => {
  const follow = document.getElementById("follow");
  const metrics = JSON.parse(document.getElementById("metrics").textContent);
  const curves = new Curves(metrics);
  curves.draw();
  for (const id of ["smoothing", "log-axis"]) document.getElementById(id).addEventListener("input", () => curves.draw());
  document.addEventListener("themechange", () => curves.draw());
  addEventListener("resize", () => curves.resize());
  if (follow.dataset.done !== "true") listen(follow, curves);
});

function listen(follow, curves) {
  const source = new EventSource(`/v1/jobs/${follow.dataset.id}/events`);
  const bar = document.getElementById("progress");
  const seen = Number(follow.dataset.last);
  const on = (name, act) => source.addEventListener(name, (event) => {
    // The page itself was made with the earlier ones.
    act(JSON.parse(event.data), Number(event.lastEventId) <= seen);
  });
  // A job that has just begun to run starts its trainer first.
  on("state", (data, old) => { if (!old) setState(data.phase ?? (data.state === "running" ? "preparing" : data.state)); });
  on("progress", (data) => {
    const total = data.total_steps;
    if (!total) return;
    bar.value = Math.min(1, data.step / total);
    const left = data.remaining_seconds ?? null;
    tell(`${Math.round(100 * bar.value)} %, step ${data.step} of ${total}${left === null ? "" : `, ${duration(left)} left`}`);
  });
  on("metric", (data, old) => { if (!old) curves.add(data); });
  on("log", (data, old) => { if (!old) addLine(data.text ?? JSON.stringify(data)); });
  on("done", () => { source.close(); setTimeout(() => location.reload(), 400); });
}

function setState(text) {
  const badge = document.getElementById("state");
  badge.textContent = text.replaceAll("_", " ");
  badge.className = `badge ${["queued", "succeeded", "failed", "cancelled"].includes(text) ? text : "running"}`;
  tell(text.replaceAll("_", " "));
}

function tell(text) {
  document.getElementById("told").textContent = text;
}

function addLine(text) {
  const log = document.getElementById("log-lines");
  log.querySelector(".soft")?.remove();
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
  log.append(`${text}\n`);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
}

class Curves {
  #rows;
  #plots = [];
  #timer;

  constructor(rows) {
    this.#rows = rows;
  }

  // Short epochs come by the dozen; drawing each of them would leave the page no time for anything else.
  add(row) {
    this.#rows.push(row);
    document.getElementById("curves").hidden = false;
    this.#timer ??= setTimeout(() => { this.#timer = undefined; this.draw(); }, DRAW_MS);
  }

  draw() {
    const names = [...new Set(this.#rows.flatMap((row) => Object.keys(row).filter((key) => typeof row[key] === "number")))];
    const drawn = names.filter((name) => !["epoch", "step", "seed", "member", "round"].includes(name));
    this.#plots.forEach((plot) => plot.destroy());
    this.#plots = [
      this.#plot("loss", drawn.filter((name) => LOSS.test(name))),
      this.#plot("quality", drawn.filter((name) => !LOSS.test(name) && !/learning_rate/.test(name))),
    ].filter(Boolean);
    this.#table(drawn);
  }

  resize() {
    for (const plot of this.#plots) plot.setSize({ width: plot.root.parentElement.clientWidth, height: 240 });
  }

  #plot(id, names) {
    const place = document.getElementById(id);
    place.setAttribute("aria-label", names.map((name) => `${words(name)} ${shown(this.#last(name))}`).join(", ") || "no values yet");
    if (!names.length || !place.clientWidth) return null;
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--soft").trim();
    const line = style.getPropertyValue("--line").trim();
    const colors = COLORS[document.documentElement.dataset.theme] ?? COLORS.light;
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line }, font: "12px system-ui, sans-serif" };
    const smoothing = Number(document.getElementById("smoothing").value);
    const isLog = document.getElementById("log-axis").checked && id === "loss";
    const series = names.map((name, index) => ({
      label: words(name),
      stroke: colors[/selection|validation/.test(name) ? 1 : 0] ?? colors[index % 2],
      width: 2,
      points: { show: this.#rows.length < 40, size: 5 },
      value: (_, value) => shown(value),
    }));
    const data = [
      this.#rows.map((row, index) => (row.epoch ?? index) + 1),
      ...names.map((name) => smooth(this.#rows.map((row) => row[name] ?? null), smoothing)),
    ];
    const options = {
      width: place.clientWidth,
      height: 240,
      scales: { x: { time: false }, y: { distr: isLog ? 3 : 1 } },
      axes: [{ ...axis, label: "epoch", labelSize: 18, incrs: [1, 2, 5, 10, 20, 50, 100] }, { ...axis, size: 56 }],
      series: [{ label: "epoch" }, ...series],
    };
    return new uPlot(options, data, place);
  }

  #last(name) {
    return this.#rows.findLast((row) => name in row)?.[name];
  }

  #table(names) {
    const head = element("tr", {}, ...["epoch", ...names].map((name) => element("th", { scope: "col" }, words(name))));
    const body = this.#rows.map((row, index) =>
      element("tr", {}, element("td", {}, String((row.epoch ?? index) + 1)), ...names.map((name) => element("td", {}, shown(row[name])))));
    document.getElementById("epochs").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  }
}

function words(name) {
  return name.replaceAll("_", " ");
}

function shown(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : "–";
}

// Exponential smoothing; the start is not pulled towards zero (Kingma & Ba 2015, section 3).
function smooth(values, weight) {
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null || !weight) return value;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}
