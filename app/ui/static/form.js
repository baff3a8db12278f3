// A form made of the JSON schema of a job spec: what the API accepts is what the form offers, with nothing said twice.
"use strict";

class SpecForm {
  #schema;
  #place;
  #editor;
  #choices;
  #value;

  constructor(schema, place, editor, choices) {
    this.#schema = schema;
    this.#place = place;
    this.#editor = editor;
    this.#choices = choices;
    editor.addEventListener("change", () => this.#readEditor());
  }

  get value() {
    return this.#value;
  }

  set value(spec) {
    this.#value = structuredClone(spec);
    this.#draw();
  }

  #readEditor() {
    try {
      this.value = JSON.parse(this.#editor.value);
      this.#editor.removeAttribute("aria-invalid");
    } catch {
      this.#editor.setAttribute("aria-invalid", "true");
    }
  }

  #draw() {
    const focused = document.activeElement?.id;
    this.#place.replaceChildren(this.#field(this.#schema, this.#value, [], "kind"));
    if (focused) document.getElementById(focused)?.focus();
    this.#show();
  }

  #show() {
    this.#editor.value = JSON.stringify(this.#value, null, 2);
  }

  // `undefined` takes a field away, so that the server's default holds.
  #set(path, value, redraw = false) {
    const last = path.at(-1);
    const owner = path.slice(0, -1).reduce((node, key) => (node[key] ??= {}), this.#value);
    if (path.length === 0) this.#value = value;
    else if (value !== undefined) owner[last] = value;
    else if (Array.isArray(owner)) owner.splice(last, 1);
    else delete owner[last];
    if (redraw) this.#draw();
    else this.#show();
  }

  #resolve(schema) {
    if (!schema?.$ref) return schema ?? {};
    const { $ref, ...own } = schema;
    return { ...this.#schema.$defs[$ref.split("/").at(-1)], ...own };
  }

  #field(given, value, path, name) {
    const schema = this.#resolve(given);
    if (schema.discriminator) return this.#union(schema, value, path, name);
    const variants = (schema.anyOf ?? schema.oneOf)?.map((one) => this.#resolve(one)).filter((one) => one.type !== "null");
    if (variants?.length === 1) return this.#field({ ...variants[0], description: schema.description ?? variants[0].description }, value, path, name);
    if (variants) return this.#either(schema, variants, value, path, name);
    if ("const" in schema && path.length) return document.createComment(name);
    if (schema.properties) return this.#object(schema, value ?? {}, path, name);
    if (schema.type === "array" && this.#isComplex(schema.items)) return this.#list(schema, value ?? [], path, name);
    return this.#simple(schema, value, path, name);
  }

  #isComplex(items) {
    const schema = this.#resolve(items);
    return Boolean(schema.properties || schema.discriminator || schema.oneOf);
  }

  #union(schema, value, path, name) {
    const key = schema.discriminator.propertyName;
    const kinds = Object.keys(schema.discriminator.mapping);
    const kind = value?.[key] ?? "";
    const change = (chosen) => this.#set(path, chosen ? this.#carry(schema, chosen, value) : undefined, true);
    const select = this.#select(path.concat(key), key === name ? words(name) : `${words(name)}: ${key}`, kinds, kind, change);
    const body = kind ? this.#object(this.#resolve({ $ref: schema.discriminator.mapping[kind] }), value, path, name, key) : "";
    return path.length ? this.#group(words(name), schema.description, select, body) : element("div", {}, select, body);
  }

  // What both kinds know stays as it was.
  #carry(schema, kind, value) {
    const target = this.#resolve({ $ref: schema.discriminator.mapping[kind] });
    const kept = Object.entries(value ?? {}).filter(([key]) => key in target.properties);
    return { ...Object.fromEntries(kept), [schema.discriminator.propertyName]: kind };
  }

  // One of several kinds of value: the words of an enumeration stand beside the names of the other kinds.
  #either(schema, variants, value, path, name) {
    const choices = variants.flatMap((one) => (one.enum ?? ("const" in one ? [one.const] : [undefined])).map((word) =>
      ({ variant: one, word, name: word === undefined ? variantName(one) : String(word) })));
    const fits = (choice) => (choice.word === undefined ? this.#fits(choice.variant, value) : choice.word === value);
    const chosen = value === undefined ? undefined : choices.find(fits) ?? choices[0];
    const change = (text) => {
      const next = choices.find((choice) => choice.name === text);
      this.#set(path, next && (next.word ?? emptyOf(next.variant)), true);
    };
    const select = this.#select(path.concat("*"), words(name), choices.map((choice) => choice.name), chosen?.name ?? "", change);
    if (!chosen || chosen.word !== undefined) return select;
    const body = chosen.variant.properties ? this.#object(chosen.variant, value, path, name, "*") : this.#field(chosen.variant, value, path, name);
    return chosen.variant.properties ? this.#group(words(name), schema.description ?? chosen.variant.description, select, body) : element("div", {}, select, body);
  }

  #fits(schema, value) {
    if (schema.enum) return schema.enum.includes(value);
    if ("const" in schema) return schema.const === value;
    if (schema.properties) return value instanceof Object && Object.keys(value).every((key) => key in schema.properties);
    if (schema.type === "array") return Array.isArray(value);
    return schema.type === "integer" || schema.type === "number" ? typeof value === "number" : typeof value === schema.type;
  }

  #object(schema, value, path, name, hidden = "") {
    const required = new Set(schema.required ?? []);
    const entries = Object.entries(schema.properties).filter(([key]) => key !== hidden);
    const isShown = ([key]) => required.has(key) || key in value || (path.length === 0 && ["training", "alias"].includes(key));
    const draw = ([key, part]) => this.#field(part, value[key], path.concat(key), key);
    const shown = entries.filter(isShown).map(draw);
    const more = entries.filter((entry) => !isShown(entry)).map(draw).filter((node) => node.nodeType !== Node.COMMENT_NODE);
    const box = element("div", { className: "fields" }, ...shown);
    if (more.length) {
      box.append(element("details", {}, element("summary", {}, `More settings (${more.length})`), element("div", { className: "fields" }, ...more)));
    }
    return path.length && !hidden ? this.#group(words(name), schema.description, box) : box;
  }

  #list(schema, value, path, name) {
    const items = value.map((item, index) => {
      const title = `${singular(name)} ${index + 1}`;
      const remove = element("button", { type: "button", className: "small", onclick: () => this.#set(path.concat(index), undefined, true) }, `Remove ${title}`);
      const drawn = this.#field(schema.items, item, path.concat(index), title);
      drawn.append(element("p", {}, remove));
      return drawn;
    });
    const start = emptyOf(this.#first(schema.items));
    const add = element("button", { type: "button", className: "small", onclick: () => this.#set(path, [...value, structuredClone(value.at(-1) ?? start)], true) }, `Add ${singular(words(name))}`);
    return this.#group(`${words(name)} (${value.length})`, schema.description, ...items, element("p", {}, add));
  }

  #first(items) {
    const schema = this.#resolve(items);
    return schema.oneOf ? this.#resolve(schema.oneOf[0]) : schema;
  }

  #group(title, description, ...parts) {
    const box = element("fieldset", {}, element("legend", {}, title));
    if (description) box.append(element("span", { className: "help" }, description.split("\n\n")[0]));
    box.append(...parts);
    return box;
  }

  #select(path, title, names, chosen, change) {
    const id = idOf(path);
    const options = [element("option", { value: "" }, "–"), ...names.map((name) => element("option", { value: name, selected: name === chosen }, words(name)))];
    const select = element("select", { id, onchange: () => change(select.value) }, ...options);
    select.dataset.pointer = pointerOf(path);
    return element("div", { className: "field" }, element("label", { htmlFor: id }, title), select);
  }

  #simple(schema, value, path, name) {
    if (schema.enum) return this.#select(path, words(name), schema.enum.map(String), value ?? "", (text) => this.#set(path, text || undefined));
    const id = idOf(path);
    const input = schema.type === "boolean" ? this.#checkbox(schema, value, path) : this.#text(schema, value, path, name);
    input.id = id;
    input.dataset.pointer = pointerOf(path);
    const label = element("label", { htmlFor: id }, words(name));
    const help = schema.description ? element("span", { className: "help", id: `${id}-help` }, schema.description) : "";
    if (help) input.setAttribute("aria-describedby", `${id}-help`);
    return schema.type === "boolean"
      ? element("div", { className: "field check" }, input, " ", label, help)
      : element("div", { className: "field" }, label, input, help);
  }

  #checkbox(schema, value, path) {
    const input = element("input", { type: "checkbox", checked: value ?? schema.default ?? false });
    input.addEventListener("change", () => this.#set(path, input.checked === (schema.default ?? false) ? undefined : input.checked));
    return input;
  }

  #text(schema, value, path, name) {
    const isNumber = schema.type === "integer" || schema.type === "number";
    const isFlat = schema.type === "array" && !(value ?? []).some((item) => item instanceof Object);
    const isJson = !isNumber && !isFlat && schema.type !== "string";
    const text = value === undefined ? "" : isFlat ? value.join(", ") : isJson ? JSON.stringify(value) : String(value);
    const input = element("input", { type: isNumber ? "number" : "text", value: text, placeholder: placeholderOf(schema) });
    if (isNumber) Object.assign(input, { min: schema.minimum ?? schema.exclusiveMinimum ?? "", max: schema.maximum ?? schema.exclusiveMaximum ?? "", step: schema.type === "integer" ? 1 : "any" });
    if (schema.pattern?.startsWith("^[a-z0-9]")) input.setAttribute("list", ["dataset", "transfer"].includes(name) ? this.#choices.datasets : name === "name" ? "" : this.#choices.models);
    input.addEventListener("input", () => this.#set(path, readText(input.value, { isNumber, isFlat, isJson, items: schema.items })));
    return input;
  }
}

function readText(text, { isNumber, isFlat, isJson, items }) {
  if (text.trim() === "") return undefined;
  if (isNumber) return Number(text);
  if (isFlat) return text.split(",").map((part) => (items?.type === "string" ? part.trim() : Number(part)));
  if (!isJson) return text;
  try { return JSON.parse(text); } catch { return text; }
}

const idOf = (path) => `spec-${path.join("-")}`;
const pointerOf = (path) => `/${path.filter((part) => part !== "*").join("/")}`;
const words = (name) => String(name).replaceAll("_", " ");
const singular = (name) => name.replace(/s$/, "");

function placeholderOf(schema) {
  if (schema.default !== undefined && schema.default !== null) return `${JSON.stringify(schema.default)}`.replace(/^"|"$/g, "");
  if (schema.type === "array") return "1, 2, 3";
  return schema.examples?.[0] ?? "";
}

function variantName(schema) {
  if (schema.enum) return schema.enum.join(", ");
  if ("const" in schema) return String(schema.const);
  return words(schema.type === "array" ? "your own" : schema.title ?? schema.type).replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
}

function emptyOf(schema) {
  if (schema.enum) return schema.enum[0];
  if ("const" in schema) return schema.const;
  if (schema.properties) return {};
  return schema.type === "array" ? [] : schema.type === "boolean" ? false : schema.type === "string" ? "" : schema.default ?? schema.minimum ?? 1;
}

function markWrong(place, problem) {
  for (const old of place.querySelectorAll(".wrong")) old.remove();
  for (const old of place.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  for (const field of problem?.errors ?? []) {
    const input = [...place.querySelectorAll("[data-pointer]")].find((one) => one.dataset.pointer === field.pointer);
    if (!input) continue;
    input.setAttribute("aria-invalid", "true");
    input.closest("details")?.setAttribute("open", "");
    const hint = problem.errors.length === 1 && problem.hint ? ` ${problem.hint}` : "";
    input.after(element("div", { className: "wrong" }, field.detail + hint));
  }
}

addEventListener("DOMContentLoaded", async () => {
  const place = document.getElementById("fields");
  const told = document.getElementById("told");
  const schema = await callApi("GET", "/ui/job-spec.json");
  const examples = JSON.parse(document.getElementById("examples").textContent);
  const form = new SpecForm(schema, place, document.getElementById("spec"), { datasets: "datasets", models: "models" });
  const example = document.getElementById("example");
  const choose = () => { form.value = examples[example.value]; told.replaceChildren(); };
  example.addEventListener("change", choose);
  choose();
  const ask = async (path, act) => {
    try {
      markWrong(place, null);
      act(await callApi("POST", path, form.value));
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      markWrong(place, error.problem);
      showProblem(told, error.problem);
    }
  };
  document.getElementById("validate").addEventListener("click", () => ask("/v1/jobs?validate_only=true", (answer) =>
    showText(told, `The spec would be accepted: ${answer.parameters.toLocaleString()} parameters.`)));
  document.getElementById("new-job").addEventListener("submit", (event) => {
    event.preventDefault();
    ask("/v1/jobs", (job) => location.assign(`/ui/jobs/${job.id}`));
  });
});
