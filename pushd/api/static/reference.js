// Draws the reference from openapi.json: index, operations, problems, schemas.

import { element, inline, paragraphs } from "./markdown.js";
import { attempt } from "./attempt.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);

function referenceName(schema) {
  return schema?.$ref?.split("/").pop();
}

function typeNodes(schema) {
  if (!schema) return ["any"];
  const name = referenceName(schema);
  if (name) return [element("a", { href: `#schema-${name}` }, name)];
  const either = schema.anyOf || schema.oneOf;
  if (either) return either.flatMap((one, at) => [at ? " | " : "", ...typeNodes(one)]);
  if (schema.enum) return [schema.enum.map((one) => JSON.stringify(one)).join(" | ")];
  if ("const" in schema) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["[", ...typeNodes(schema.items), "]"];
  if (schema.type === "object" && schema.additionalProperties && schema.additionalProperties !== true)
    return ["{…: ", ...typeNodes(schema.additionalProperties), "}"];
  return [schema.type || "any"];
}

function limits(schema) {
  const notes = [];
  const between = (low, high, unit) => {
    if (low != null && high != null) notes.push(`${low}…${high}${unit}`);
    else if (low != null) notes.push(`at least ${low}${unit}`);
    else if (high != null) notes.push(`at most ${high}${unit}`);
  };
  for (const one of [schema, ...(schema.anyOf || [])]) {
    between(one.minimum, one.maximum, "");
    between(one.minLength, one.maxLength, " characters");
    between(one.minItems, one.maxItems, " items");
    if (one.pattern) notes.push(one.pattern);
  }
  if (schema.default !== undefined && schema.default !== null) notes.push(`default ${JSON.stringify(schema.default)}`);
  return notes.join(", ");
}

function rows(fields) {
  const body = fields.map(({ name, place, schema, required, description }) =>
    element("tr", {},
      element("td", {}, element("code", {}, name), required ? element("span", { class: "needed" }, " required") : null,
        place ? element("div", { class: "type" }, place) : null),
      element("td", { class: "type" }, typeNodes(schema), element("div", {}, limits(schema))),
      element("td", {}, paragraphs(description || schema.description))));
  const head = element("tr", {}, ["Name", "Type", "Meaning"].map((text) => element("th", { scope: "col" }, text)));
  return element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, body)));
}

function properties(schema) {
  return Object.entries(schema.properties || {}).map(([name, inner]) =>
    ({ name, schema: inner, required: (schema.required || []).includes(name) }));
}

function schemaTable(schema, document_) {
  const name = referenceName(schema);
  const whole = name ? document_.components.schemas[name] : schema;
  if (whole.properties) return rows(properties(whole));
  return element("p", { class: "type" }, typeNodes(whole));
}

function drawOperation(path, method, operation, document_) {
  const METHOD = method.toUpperCase();
  const inside = element("div", { class: "inside" }, paragraphs(operation.description));
  const parameters = (operation.parameters || []).map((one) => ({ ...one, place: one.in }));
  if (parameters.length) inside.append(element("h3", {}, "Parameters"), rows(parameters));
  for (const [type, media] of Object.entries(operation.requestBody?.content || {})) {
    inside.append(element("h3", {}, `Body · ${type}`), element("p", { class: "type" }, typeNodes(media.schema)), schemaTable(media.schema, document_));
    if (media.example !== undefined) inside.append(element("pre", { tabindex: 0 }, element("code", {}, JSON.stringify(media.example, null, 2))));
  }
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    const media = Object.entries(answer.content || {})[0];
    return element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, inline(answer.description)),
      element("td", { class: "type" }, media ? [media[0], " ", ...typeNodes(media[1].schema)] : ""));
  });
  const head = element("tr", {}, ["Status", "Meaning", "Body"].map((text) => element("th", { scope: "col" }, text)));
  inside.append(element("h3", {}, "Answers"),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, head), element("tbody", {}, answers))));
  const place = element("div", {});
  inside.append(element("h3", {}, "Try it"), place);
  const details = element("details", { class: "operation", id: operation.operationId },
    element("summary", {}, element("span", { class: `method ${METHOD}` }, METHOD), element("span", { class: "path" }, path),
      element("span", { class: "what" }, operation.summary)), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !place.hasChildNodes()) place.append(attempt(document_, path, METHOD, operation));
  });
  return details;
}

function draw(document_) {
  byId("version").textContent = `API ${document_.info.version}`;
  byId("introduction").replaceChildren(element("h1", {}, "API reference"), ...paragraphs(document_.info.description));
  const all = Object.entries(document_.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
  for (const tag of document_.tags) {
    const mine = all.filter((one) => one.operation.tags.includes(tag.name));
    const title = `tag-${tag.name}`;
    byId("operations").append(element("section", { "aria-labelledby": title }, element("h2", { id: title }, tag.name),
      element("p", { class: "quiet" }, tag.description), mine.map((one) => drawOperation(one.path, one.method, one.operation, document_))));
    byId("index").append(element("section", { class: "group" }, element("h2", {}, tag.name), element("ul", {}, mine.map(({ path, method, operation }) =>
      element("li", { "data-text": `${path} ${operation.summary} ${operation.operationId}`.toLowerCase() },
        element("a", { href: `#${operation.operationId}` },
          element("span", { class: `method ${method.toUpperCase()}` }, method.toUpperCase()), element("span", {}, operation.summary)))))));
  }
  byId("problem-rows").append(...document_["x-problems"].map((one) => element("tr", { id: `problem-${one.code}` },
    element("td", {}, element("code", {}, one.code)), element("td", {}, String(one.status)),
    element("td", {}, element("strong", {}, `${one.title}. `), inline(one.description)), element("td", {}, one.retryable ? "yes" : "no"))));
  byId("schema-list").append(...Object.entries(document_.components.schemas).map(([name, schema]) =>
    element("details", { class: "schema", id: `schema-${name}` }, element("summary", {}, name), paragraphs(schema.description), schemaTable(schema, document_))));
  byId("problems").hidden = byId("schemas").hidden = false;
}

function openTarget() {
  const target = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
  for (const link of document.querySelectorAll(".index a")) link.toggleAttribute("aria-current", link.hash === location.hash);
}

byId("access").addEventListener("submit", (event) => event.preventDefault());
byId("find").addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const item of document.querySelectorAll("#index li")) item.hidden = !item.dataset.text.includes(wanted);
  for (const group of document.querySelectorAll("#index .group")) group.hidden = !group.querySelector("li:not([hidden])");
});
window.addEventListener("hashchange", openTarget);

try {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
  draw(await answer.json());
  openTarget();
} catch (error) {
  byId("introduction").replaceChildren(element("h1", {}, "API reference"), element("p", { role: "alert" }, `It could not be drawn: ${error.message}`));
}
