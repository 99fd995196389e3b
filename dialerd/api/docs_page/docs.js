// Shows the OpenAPI document. Text goes into the page as text only: nothing of the document is taken for markup.

const METHODS = ["get", "post", "patch", "put", "delete"];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const json = (value) => JSON.stringify(value, null, 2);
const code = (text) => element("code", {}, text);
const block = (text) => element("pre", {}, code(text));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function lookUp(api, object) {
  if (!object?.$ref) return object;
  return object.$ref.slice(2).split("/").reduce((place, step) => place[step], api);
}

function typeOf(schema) {
  if (schema === undefined || schema === true) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf ?? schema.oneOf) return (schema.anyOf ?? schema.oneOf).map(typeOf).join(" or ");
  if (schema.allOf) return typeOf(schema.allOf[0]);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return [schema.type ?? "any", schema.format].filter(Boolean).join(", ");
}

function table(headings, rows) {
  if (rows.length === 0) return null;
  const head = element("tr", {}, ...headings.map((each) => element("th", { scope: "col" }, each)));
  const body = rows.map((row) => element("tr", {}, ...row.map((each) => element("td", {}, each))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function curl(api, path, method, operation, parameters) {
  const words = [`curl -H "Authorization: Bearer $KEY"`];
  if (method !== "get") words.push(`-X ${method.toUpperCase()}`);
  const [media, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (media === "application/json") words.push(`-H 'Content-Type: ${media}'`, `-d ${quoted(JSON.stringify(content.example))}`);
  else if (media) words.push(`-H 'Content-Type: ${media}'`, "--data-binary @contacts.csv");
  const needed = parameters.filter((each) => each.in === "query" && each.required).map((each) => `${each.name}=…`);
  const query = needed.length ? `?${needed.join("&")}` : "";
  words.push(quoted(`${location.origin}${api.servers[0].url}${path}${query}`));
  return words.join(" ");
}

function contents(content) {
  return Object.entries(content ?? {}).map(([media, each]) => {
    const example = each.example ?? Object.values(each.examples ?? {})[0]?.value;
    const shown = typeof example === "string" ? example : json(example);
    const summary = element("summary", {}, code(media), ` ${typeOf(each.schema)}`);
    return element("details", {}, summary, example === undefined ? null : block(shown));
  });
}

function showOperation(api, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((each) => lookUp(api, each));
  const parameterRows = parameters.map((each) => [code(each.name), each.in, typeOf(each.schema), each.description ?? ""]);
  const answers = Object.entries(operation.responses).map(([status, response]) => {
    const found = lookUp(api, response);
    return [code(status), element("div", {}, found.description, ...contents(found.content))];
  });
  return element("section", { id: operation.operationId },
    element("h2", {}, element("span", { class: "method" }, method.toUpperCase()), code(path)),
    element("p", {}, operation.summary),
    element("p", {}, operation.description ?? ""),
    block(curl(api, path, method, operation, parameters)),
    table(["Parameter", "In", "Type", "Meaning"], parameterRows),
    ...(operation.requestBody ? [element("h3", {}, "Body"), ...contents(operation.requestBody.content)] : []),
    element("h3", {}, "Answers"),
    table(["Status", "Answer"], answers));
}

function showModel(name, schema) {
  const required = schema.required ?? [];
  const rows = Object.entries(schema.properties ?? {}).map(([field, each]) =>
    [code(field), typeOf(each), required.includes(field) ? "required" : "", each.description ?? ""]);
  return element("section", { id: `model-${name}` },
    element("h2", {}, code(name)),
    element("p", {}, schema.description ?? ""),
    rows.length ? table(["Field", "Type", "", "Meaning"], rows) : element("p", {}, code(typeOf(schema))));
}

async function show() {
  const main = document.querySelector("main");
  const response = await fetch("/api/v1/openapi.json");
  if (!response.ok) throw new Error(`the daemon answered ${response.status}`);
  const api = await response.json();
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => ({ path, method, operation: methods[method] })));
  document.querySelector("nav").replaceChildren(...api.tags.flatMap((tag) => [
    element("h2", {}, tag.name), element("p", {}, tag.description),
    element("ul", {}, ...operations.filter((each) => each.operation.tags.includes(tag.name)).map((each) =>
      element("li", {}, element("a", { href: `#${each.operation.operationId}` }, `${each.method.toUpperCase()} ${each.path}`))))]));
  main.replaceChildren(
    element("p", {}, `Version ${api.info.version}. ${api.info.description}`),
    ...operations.map((each) => showOperation(api, each.path, each.method, each.operation)),
    element("h1", {}, "Models"),
    ...Object.entries(api.components.schemas).map(([name, schema]) => showModel(name, schema)));
  document.querySelector(location.hash || "main")?.scrollIntoView();
}

show().catch((error) => document.querySelector("main").replaceChildren(
  element("p", { role: "alert" }, `The document cannot be shown: ${error.message}`)));
