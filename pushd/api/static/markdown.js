// The little Markdown that descriptions use: paragraphs, **strong**, *emphasis*, `code`. Nodes, never markup strings.

const INLINE = /\*\*([^*]+)\*\*|\*([^*]+)\*|`([^`]+)`/g;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== ""));
  return made;
}

export function inline(text) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    nodes.push(text.slice(at, found.index));
    const [whole, strong, emphasis, code] = found;
    nodes.push(strong ? element("strong", {}, strong) : emphasis ? element("em", {}, emphasis) : element("code", {}, code));
    at = found.index + whole.length;
  }
  nodes.push(text.slice(at));
  return nodes;
}

export function paragraphs(text) {
  return (text || "").split(/\n\s*\n/).filter((part) => part.trim()).map((part) => element("p", {}, inline(part.replace(/\s*\n\s*/g, " "))));
}
