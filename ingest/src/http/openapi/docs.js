// Shows /api/v1/openapi.json for people. Everything is written as text, nothing as HTML.
"use strict";

const make = (name, text, className) => {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};

const type = (schema) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  const range = "minimum" in schema ? ` ${schema.minimum} to ${schema.maximum}` : "";
  return [schema.type ?? "any"].flat().join(" or ") + range + (schema.pattern ? ` ${schema.pattern}` : "");
};

const table = (heads, rows) => {
  const element = make("table");
  const line = (cells, name) => {
    const row = make("tr");
    row.append(...cells.map((cell) => make(name, cell)));
    return row;
  };
  element.append(line(heads, "th"), ...rows.map((row) => line(row, "td")));
  return element;
};

const answers = (responses, schemas) => Object.entries(responses).flatMap(([status, response]) => {
  const bodies = Object.entries(response.content ?? {});
  const said = make("p", `${status} ${response.description} ${bodies.map(([name]) => name).join(", ")}`);
  const named = bodies.map(([, body]) => body.schema?.$ref?.split("/").pop()).find((name) => name);
  if (!named || named === "Error" || named === "Object") return [said];
  return [said, make("pre", JSON.stringify(schemas[named], null, 2))];
});

const show = (path, method, operation, schemas) => {
  const element = make("details");
  const head = make("summary");
  head.append(make("span", method.toUpperCase(), "method"), make("code", path), ` ${operation.summary}`);
  element.append(head);
  const rows = (operation.parameters ?? []).map((it) =>
    [it.name + (it.required ? " *" : ""), it.in, type(it.schema), it.description ?? ""]);
  if (rows.length) element.append(table(["parameter", "in", "type", "what"], rows));
  const body = operation.requestBody?.content?.["application/json"]?.schema?.$ref;
  if (body) {
    element.append(make("p", "Body"), make("pre", JSON.stringify(schemas[body.split("/").pop()], null, 2)));
  }
  element.append(...answers(operation.responses, schemas));
  element.dataset.text = `${path} ${method} ${operation.summary}`.toLowerCase();
  return element;
};

const start = async () => {
  const response = await fetch("/api/v1/openapi.json");
  if (!response.ok) throw new Error(`the document: ${response.status}`);
  const api = await response.json();
  const main = document.getElementById("operations");
  const sections = new Map(api.tags.map((tag) => {
    const section = make("section");
    section.append(make("h2", tag.name), make("p", tag.description));
    main.append(section);
    return [tag.name, section];
  }));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      sections.get(operation.tags[0]).append(show(path, method, operation, api.components.schemas));
    }
  }
  document.getElementById("about").textContent = `${api.info.description} Version ${api.info.version}.`;
  document.getElementById("search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const element of main.querySelectorAll("details")) {
      element.hidden = !words.every((word) => element.dataset.text.includes(word));
    }
  });
};

start().catch((error) => { document.getElementById("about").textContent = String(error); });
