// Lists in parts, both ways. The address names the offset; where the part before was seen, its cursor is sent instead,
// which is cheaper for the daemon in a long list.

import { element, link } from "/dashboard/dom.js";
import { number } from "/dashboard/format.js";

const LIMIT = 50;
const MOST_CURSORS = 1000;
const cursors = new Map();

export async function part(context, path, filters = {}) {
  const offset = Math.max(0, Math.floor(Number(context.query.get("offset")) || 0));
  const name = (at) => JSON.stringify([path, filters, at]);
  const after = cursors.get(name(offset));
  const place = after === undefined ? { offset } : { after };
  const listing = await context.api.get(path, { ...filters, limit: LIMIT, ...place }, context.signal);
  if (cursors.size > MOST_CURSORS) cursors.clear();
  if (listing.next !== null) cursors.set(name(offset + LIMIT), listing.next);
  return { ...listing, offset };
}

export function pager(context, listing) {
  const { offset, total, data, next } = listing;
  const shown = data.length ? `${number(offset + 1)}–${number(offset + data.length)} of ${number(total)}` : `none of ${number(total)}`;
  return element("nav", { class: "pager", "aria-label": "Parts of the list" },
    offset > 0 ? link(at(context, Math.max(0, offset - LIMIT)), "← Previous", { rel: "prev" }) : null,
    element("span", { role: "status" }, shown),
    next !== null ? link(at(context, offset + LIMIT), "Next →", { rel: "next" }) : null);
}

function at(context, offset) {
  return hash(context.path, { ...Object.fromEntries(context.query), offset: offset || "" });
}

export function hash(path, query = {}) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

// The chosen filters of a list, from its address.
export function filters(context, ...names) {
  return Object.fromEntries(names.flatMap((name) => (context.query.get(name) ? [[name, context.query.get(name)]] : [])));
}
