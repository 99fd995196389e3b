// Forms: every input with its label, and what the API says of a field beside that field.

import { element, fill, paragraph } from "/dashboard/dom.js";
import { number } from "/dashboard/format.js";

let fields = 0;

export function field(label, input, hint = null) {
  fields += 1;
  input.id ||= `field-${fields}`;
  const hintId = `${input.id}-hint`;
  if (hint) input.setAttribute("aria-describedby", hintId);
  return element("div", { class: "field" },
    element("label", { for: input.id }, label), input,
    hint ? element("p", { class: "hint", id: hintId }, hint) : null);
}

export const input = (name, attributes = {}) => element("input", { name, autocomplete: "off", ...attributes });

export function checkbox(name, label, attributes = {}) {
  return element("label", { class: "check" }, element("input", { type: "checkbox", name, value: "true", ...attributes }), ` ${label}`);
}

// Choices are [value, text] pairs.
export function select(name, choices, chosen = "", attributes = {}) {
  return element("select", { name, ...attributes },
    choices.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}

// A form whose problems are shown in itself. `work` gets the form; while it runs, a second press does nothing.
export function form(children, work, attributes = {}) {
  const trouble = element("div", { class: "problem", role: "alert" });
  let busy = false;
  const made = element("form", {
    novalidate: true,
    ...attributes,
    onsubmit: async (event) => {
      event.preventDefault();
      if (busy) return;
      busy = true;
      made.setAttribute("aria-busy", "true");
      clear(made, trouble);
      try {
        await work(made);
      } catch (error) {
        if (error.name !== "AbortError") tell(made, trouble, error);
      } finally {
        busy = false;
        made.removeAttribute("aria-busy");
      }
    },
  }, trouble, children);
  return made;
}

function clear(form, trouble) {
  fill(trouble);
  for (const each of form.querySelectorAll(".field-error")) each.remove();
  for (const each of form.querySelectorAll("[aria-invalid]")) {
    each.removeAttribute("aria-invalid");
    each.removeAttribute("aria-errormessage");
  }
}

function tell(form, trouble, error) {
  const elsewhere = [];
  let first = null;
  for (const each of error.errors ?? []) {
    const place = form.elements[each.field] ?? form.elements[each.field.replace(/^settings\./, "")];
    const input = place instanceof RadioNodeList ? place[0] : place;
    if (!input || each.row) {
      elsewhere.push(each);
      continue;
    }
    const id = `${input.id || input.name}-error`;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", id);
    (input.closest(".field") ?? input.parentElement).append(element("p", { class: "field-error", id }, each.message));
    first ??= input;
  }
  fill(trouble, problem(error, elsewhere));
  (first ?? trouble).focus();
  if (!first) trouble.scrollIntoView({ block: "nearest" });
}

// A problem in its own words: the detail, and each field with what is wrong with it.
export function problem(error, errors = error.errors ?? []) {
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  return [
    paragraph(error.message + wait),
    errors.length ? element("ul", {}, errors.map((each) => element("li", {}, place(each), each.message))) : null,
  ];
}

function place(each) {
  const where = each.row ? `row ${number(each.row)}${each.column ? `, ${each.column}` : ""}` : each.field;
  return where ? `${where}: ` : "";
}

export function given(form) {
  const values = [...new FormData(form)].filter(([, value]) => typeof value === "string" && value.trim() !== "");
  return Object.fromEntries(values.map(([name, value]) => [name, value.trim()]));
}
