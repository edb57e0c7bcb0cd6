// Shows /openapi.json. Everything is set as text, never as markup, so nothing in the document can become a program.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

// Prose with `code` in it.
function prose(text) {
  const parts = (text || "").split("`");
  return make("span", {}, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}

function nameOf(reference) {
  return reference.split("/").pop();
}

// A schema in a few words: `integer, 1..1000`, `EngineInfo`, `list of string`.
function inWords(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const several = schema.anyOf || schema.oneOf;
  if (several) return several.map(inWords).join(" or ");
  if (schema.type === "array") return `list of ${inWords(schema.items) || "anything"}`;
  const limits = [];
  if (schema.minimum !== undefined || schema.maximum !== undefined) {
    limits.push(`${schema.minimum ?? ""}..${schema.maximum ?? ""}`);
  }
  if (schema.maxLength !== undefined) limits.push(`at most ${schema.maxLength} characters`);
  if (schema.default !== undefined && schema.default !== null) limits.push(`default ${JSON.stringify(schema.default)}`);
  return [schema.type || "anything", ...limits].join(", ");
}

function referred(schema, found = new Set()) {
  if (schema === null || typeof schema !== "object") return found;
  if (typeof schema.$ref === "string") found.add(nameOf(schema.$ref));
  for (const value of Object.values(schema)) referred(value, found);
  return found;
}

function fields(schema) {
  const required = new Set(schema.required || []);
  const rows = Object.entries(schema.properties || {}).map(([name, value]) =>
    make(
      "tr",
      {},
      make("td", {}, make("code", {}, name), required.has(name) ? " *" : ""),
      make("td", {}, inWords(value)),
      make("td", {}, prose(value.description)),
    ),
  );
  return make("table", {}, ...rows);
}

// A schema, with every component that it needs folded up beneath it. The set grows until nothing new is named.
function shape(schema, components) {
  const names = referred(schema);
  for (const name of names) referred(components[name], names);
  const parts = [...names].map((name) => {
    const component = components[name] || {};
    const body = component.properties ? fields(component) : make("pre", {}, JSON.stringify(component, null, 2));
    return make("details", {}, make("summary", {}, name), make("div", {}, prose(component.description), body));
  });
  return make("div", {}, make("p", {}, make("code", {}, inWords(schema))), ...parts);
}

function parameters(list) {
  const rows = list.map((parameter) =>
    make(
      "tr",
      {},
      make("td", {}, make("code", {}, parameter.name), parameter.required ? " *" : ""),
      make("td", {}, parameter.in),
      make("td", {}, inWords(parameter.schema)),
      make("td", {}, prose(parameter.description)),
    ),
  );
  return make("table", {}, ...rows);
}

function responses(all, components) {
  return Object.entries(all).map(([status, response]) => {
    const contents = Object.entries(response.content || {}).map(([type, content]) =>
      make("div", {}, make("p", {}, make("code", {}, type)), shape(content.schema, components)),
    );
    return make(
      "details",
      {},
      make("summary", {}, make("strong", {}, status), " ", prose(response.description)),
      make("div", {}, ...contents),
    );
  });
}

function details(operation, components) {
  const parts = [make("p", {}, prose(operation.description))];
  if (operation.parameters) parts.push(make("h3", {}, "Parameters"), parameters(operation.parameters));
  const content = operation.requestBody?.content?.["application/json"];
  if (content) parts.push(make("h3", {}, "Body"), shape(content.schema, components));
  parts.push(make("h3", {}, "Answers"), ...responses(operation.responses, components));
  return make("div", {}, ...parts);
}

function entry(path, method, operation, components) {
  const line = [make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path), " "];
  const element = make(
    "details",
    { id: operation.operationId },
    make("summary", {}, ...line, make("span", { class: "summary" }, operation.summary)),
  );
  // Built when it is first opened: the page is quick, however long the document is.
  element.addEventListener("toggle", () => element.append(details(operation, components)), { once: true });
  element.dataset.text = `${method} ${path} ${operation.operationId} ${operation.summary}`.toLowerCase();
  return element;
}

function show(spec) {
  document.getElementById("about").textContent = `${spec.info.description} Version ${spec.info.version}.`;
  const sections = new Map(spec.tags.map((tag) => [tag.name, make("section", { id: `tag-${tag.name}` }, make("h2", {}, tag.name))]));
  for (const [path, operations] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((name) => operations[name])) {
      const operation = operations[method];
      sections.get(operation.tags[0]).append(entry(path, method, operation, spec.components.schemas));
    }
  }
  document.getElementById("tags").append(
    ...[...sections.keys()].map((name) => make("a", { href: `#tag-${name}` }, name)),
    make("a", { href: "/openapi.json" }, "openapi.json"),
  );
  document.getElementById("operations").append(...sections.values());
  document.getElementById("find").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const element of document.querySelectorAll("[data-text]")) {
      element.hidden = !words.every((word) => element.dataset.text.includes(word));
    }
  });
  document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
}

fetch("/openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => {
    document.getElementById("about").textContent = `The document cannot be read: ${error.message}`;
  });
