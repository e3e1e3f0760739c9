// The form under each operation that sends a real request, and the curl line that does the same.

import { element } from "./markdown.js";

const BYTES_SHOWN_MAX = 200000;

function resolve(schema, document_) {
  return schema?.$ref ? document_.components.schemas[schema.$ref.split("/").pop()] : schema;
}

// A body to begin with: required fields only, with the plainest value of each.
function sample(schema, document_, depth = 0) {
  const whole = resolve(schema, document_);
  if (!whole || depth > 4) return null;
  if (whole.default != null) return whole.default;
  const either = whole.anyOf || whole.oneOf;
  if (either) return sample(either[0], document_, depth + 1);
  if (whole.enum) return whole.enum[0];
  switch (whole.type) {
    case "object":
      return Object.fromEntries((whole.required || []).map((name) => [name, sample(whole.properties?.[name], document_, depth + 1)]));
    case "array": return whole.minItems ? [sample(whole.items, document_, depth + 1)] : [];
    case "string": return "";
    case "boolean": return false;
    case "integer": case "number": return whole.minimum ?? 0;
    default: return null;
  }
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function attempt(document_, path, method, operation) {
  const base = document_.servers[0].url;
  const inputs = (operation.parameters || []).filter((one) => one.name !== "Pushd-App").map((one) => {
    const input = element("input", { type: "text", name: one.name, spellcheck: "false", required: one.required });
    return { ...one, input };
  });
  const [type, media] = Object.entries(operation.requestBody?.content || {})[0] || [];
  const lines = type === "application/x-ndjson";
  const start = media && (media.example ?? sample(media.schema, document_));
  const body = media && element("textarea", { spellcheck: "false", rows: 8 });
  if (body) body.value = lines ? `${JSON.stringify(start)}\n` : JSON.stringify(start, null, 2);

  const status = element("p", { class: "status", role: "status", "aria-live": "polite" });
  const head = element("span", { class: "quiet" });
  const shown = element("pre", { tabindex: 0, hidden: true });
  const go = element("button", { class: "go", type: "submit" }, "Send");
  const copy = element("button", { type: "button" }, "Copy as curl");

  function request() {
    let filled = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { name, in: place, input } of inputs) {
      const value = input.value;
      if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(value));
      else if (value !== "" && place === "query") query.append(name, value);
      else if (value !== "") headers[name] = value;
    }
    const key = document.getElementById("key").value.trim();
    const app = document.getElementById("app").value.trim();
    if (key) headers.Authorization = `Bearer ${key}`;
    if (app) headers["Pushd-App"] = app;
    if (body) headers["Content-Type"] = type;
    const search = query.toString();
    return { url: base + filled + (search ? `?${search}` : ""), headers, body: body?.value };
  }

  async function send(event) {
    event.preventDefault();
    const { url, headers, body: text } = request();
    go.disabled = true;
    status.className = "status";
    status.textContent = "Sending…";
    head.textContent = "";
    const began = performance.now();
    try {
      const answer = await fetch(url, { method, headers, body: text, credentials: "omit" });
      const content = await answer.text();
      status.textContent = `${answer.status} ${answer.statusText}`;
      status.classList.add(answer.ok ? "good" : "bad");
      head.textContent = `${Math.round(performance.now() - began)} ms · ${answer.headers.get("Content-Type") || "no body"}`;
      let pretty = content;
      try { pretty = JSON.stringify(JSON.parse(content), null, 2); } catch { /* lines, or nothing: shown as it is */ }
      shown.textContent = pretty.length > BYTES_SHOWN_MAX ? `${pretty.slice(0, BYTES_SHOWN_MAX)}\n…` : pretty;
      shown.hidden = !pretty;
    } catch (error) {
      status.textContent = `No answer: ${error.message}`;
      status.classList.add("bad");
      shown.hidden = true;
    } finally {
      go.disabled = false;
    }
  }

  copy.addEventListener("click", async () => {
    const { url, headers, body: text } = request();
    const parts = [`curl -X ${method} ${quote(location.origin + url)}`];
    for (const [name, value] of Object.entries(headers)) {
      parts.push(name === "Authorization" ? `-H "Authorization: Bearer $PUSHD_KEY"` : `-H ${quote(`${name}: ${value}`)}`);
    }
    if (text) parts.push(`${lines ? "--data-binary" : "-d"} ${quote(text)}`);
    await navigator.clipboard.writeText(parts.join(" \\\n  "));
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy as curl"; }, 1500);
  });

  return element("form", { class: "attempt", onsubmit: send },
    inputs.length ? element("div", { class: "fields" }, inputs.map(({ name, in: place, required, input }) =>
      element("label", {}, `${name} (${place}${required ? ", required" : ""})`, input))) : null,
    body ? element("label", {}, lines ? "Lines" : "Body", body) : null,
    element("div", { class: "row" }, go, copy, status, head), shown);
}
