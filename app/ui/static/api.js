// Speak to the API as every other client does, and show its problems: what happened, which field, how to mend it.
"use strict";

class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

async function callApi(method, url, body) {
  const isForm = body instanceof FormData;
  const headers = body === undefined || isForm ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: body === undefined || isForm ? body : JSON.stringify(body) });
  } catch {
    throw new ProblemError({ title: "The service does not answer", detail: "No connection.", hint: "Is it still running?" });
  }
  const text = await answer.text();
  const document = text && /json/.test(answer.headers.get("Content-Type") ?? "") ? JSON.parse(text) : {};
  if (!answer.ok) {
    throw new ProblemError({ title: `Error ${answer.status}`, detail: text.slice(0, 200), ...document });
  }
  return document;
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "list" && key !== "form") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function showProblem(place, problem) {
  const fields = (problem.errors ?? []).filter((field) => field.detail !== problem.detail);
  const box = element(
    "div",
    { className: "problem", role: "alert" },
    element("strong", {}, problem.title ?? "This did not work"),
    element("div", {}, problem.detail ?? ""),
  );
  if (fields.length) {
    box.append(element("ul", {}, ...fields.map((field) =>
      element("li", {}, element("code", {}, field.pointer || "/"), ` ${field.detail}`))));
  }
  if (problem.hint) box.append(element("div", { className: "soft" }, problem.hint));
  place.replaceChildren(box);
}

function showText(place, text) {
  place.replaceChildren(element("div", { className: "told", role: "status" }, text));
}

// <form data-call="PUT /v1/models/{name}/aliases/{alias}"> sends its fields as JSON; {field} in the path is filled in.
function fillPath(path, values) {
  return path.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    delete values[name];
    return encodeURIComponent(value);
  });
}

function jsonOf(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name || (field.type === "radio" && !field.checked)) continue;
    if (field.type === "checkbox") { if (field.checked) values[field.name] = true; continue; }
    if (field.value === "" && !("keep" in field.dataset)) continue;
    values[field.name] = field.type === "number" || field.dataset.type === "number" ? Number(field.value) : field.value;
  }
  return values;
}

async function send(form) {
  const place = form.querySelector("[data-told]") ?? form.appendChild(element("div", { "data-told": "" }));
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
  const [method, pattern] = form.dataset.call.split(" ");
  const buttons = [...form.querySelectorAll("button")];
  buttons.forEach((button) => { button.disabled = true; });
  form.setAttribute("aria-busy", "true");
  try {
    const isUpload = form.enctype === "multipart/form-data";
    const values = isUpload ? {} : jsonOf(form);
    const path = fillPath(pattern, values);
    const body = isUpload ? uploadOf(form) : form.hasAttribute("data-bare") ? undefined : values;
    const answer = await callApi(method, path, body);
    const next = form.dataset.next;
    if (next) location.assign(fillPath(next, answer));
    else location.reload();
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    showProblem(place, error.problem);
    buttons.forEach((button) => { button.disabled = false; });
  } finally {
    form.removeAttribute("aria-busy");
  }
}

function uploadOf(form) {
  const data = new FormData(form);
  for (const [name, value] of [...data.entries()]) {
    if (value === "" || (value instanceof File && value.size === 0 && value.name === "")) data.delete(name);
  }
  return data;
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.call) return;
  event.preventDefault();
  send(event.target);
});

// Times are written in UTC by the server; here in the reader's own.
function localTimes(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      time.title = time.dateTime;
      time.textContent = moment.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    }
  }
}
addEventListener("DOMContentLoaded", () => localTimes());
document.addEventListener("htmx:after:swap", () => localTimes());
// A list of choices that shows itself anew as soon as one is made.
document.addEventListener("change", (event) => {
  if (event.target.form?.hasAttribute("data-auto")) event.target.form.requestSubmit();
});
