// Makes elements. Text goes into the page as text nodes only: nothing that comes from the API is taken for markup.

// Attributes: `on…` are listeners, true and false set or leave out, null and undefined leave out.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...present(children));
  return made;
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

export function fill(place, ...children) {
  place.replaceChildren(...present(children));
  return place;
}

// Replaces what is shown and leaves the focus where it was: on the element with the same data-key, or, where a button
// is gone because it was pressed ("start 7"), on another of the same thing ("pause 7").
export function refill(place, ...children) {
  const active = document.activeElement;
  const key = place.contains(active) ? active.dataset.key : undefined;
  const open = [...place.querySelectorAll("details[open][data-key]")].map((each) => each.dataset.key);
  fill(place, ...children);
  const find = (wanted) => [...place.querySelectorAll("[data-key]")].find((each) => each.dataset.key === wanted);
  for (const each of open) find(each)?.setAttribute("open", "");
  if (key !== undefined) (find(key) ?? kin(place, key))?.focus();
}

function kin(place, key) {
  const thing = key.split(" ").at(-1);
  return [...place.querySelectorAll("[data-key]")].find((each) => each.dataset.key.split(" ").at(-1) === thing);
}

export const paragraph = (...children) => element("p", {}, ...children);
export const link = (href, text, attributes = {}) => element("a", { href, ...attributes }, text);

export function heading(text, level = 1) {
  return element(`h${level}`, level === 1 ? { tabindex: "-1" } : {}, text);
}

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

export function section(title, ...children) {
  const id = `section-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return element("section", { "aria-labelledby": id }, element("h2", { id }, title), ...children);
}

// A term and its value, several of them. On a phone each stands in a line of its own.
export function facts(pairs) {
  return element("dl", {}, pairs.filter(Boolean).map(([term, value]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, value ?? "–"))));
}

// On a phone a row of more than two cells becomes a card (dashboard.css); the roles keep what CSS then takes from the table's meaning.
export function table(caption, headings, rows, empty = "Nothing here.") {
  if (rows.length === 0) return element("p", { class: "empty" }, empty);
  const head = element("tr", { role: "row" }, headings.map((each) =>
    element("th", { scope: "col", role: "columnheader" }, each)));
  const body = rows.map((row) => element("tr", { role: "row" }, row.map((cell, index) =>
    element("td", { role: "cell", "data-label": headings[index] }, element("div", {}, cell ?? "–")))));
  return element("table", { role: "table", class: headings.length > 2 ? "cards" : null },
    element("caption", {}, caption),
    element("thead", { role: "rowgroup" }, head),
    element("tbody", { role: "rowgroup" }, body));
}

export function state(status) {
  return element("span", { class: `state state-${status}` }, status);
}

// How far something is; null where that is not known.
export function bar(part, whole, label) {
  if (part === null) return null;
  return element("progress", { max: Math.max(whole, 1), value: part, "aria-label": label });
}

export function notice(text) {
  const shown = element("p", {}, text);
  document.querySelector("#notices").append(shown);
  setTimeout(() => shown.remove(), 8000);
}

// Asks before something is done; resolves to the form's values, or to null. The browser keeps the focus inside and
// gives it back (HTML, the dialog element).
export function confirmed(question, details, action, ...inputs) {
  return new Promise((resolve) => {
    const form = element("form", { method: "dialog" }, heading(question, 2), details ? paragraph(details) : null, inputs,
      element("div", { class: "actions" },
        element("button", { type: "submit", value: "yes" }, action),
        element("button", { type: "submit", value: "no", class: "quiet", formnovalidate: true }, "Cancel")));
    const dialog = element("dialog", { "aria-label": question }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? Object.fromEntries(new FormData(form)) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Does something now and then, while the page is looked at, until the signal says that it is left.
export function every(seconds, work, signal) {
  let timer = null;
  const again = () => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(run, seconds * 1000);
  };
  const run = async () => {
    if (!document.hidden) await work();
    again();
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) { clearTimeout(timer); run(); } }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  again();
}
