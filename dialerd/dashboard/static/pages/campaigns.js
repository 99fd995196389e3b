// The list of campaigns.

import { element, every, fill, heading, link, refill, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { actions, progress } from "/dashboard/campaign_head.js";
import { field, form, given, input, problem, select } from "/dashboard/forms.js";
import { moment, number, percent } from "/dashboard/format.js";
import { filters, hash } from "/dashboard/paging.js";

const STATUSES = ["draft", "active", "paused", "completed", "cancelled"];
const SORTS = [["-created_at", "newest first"], ["created_at", "oldest first"], ["name", "by name"], ["-started_at", "last started first"]];
const SECONDS = 15;

export async function show(place, context) {
  const list = element("div");
  const trouble = element("div", { class: "problem", role: "alert" });
  const update = async () => refill(list, await listed(context, update));
  fill(place, heading("Campaigns"),
    context.may("operator") ? element("p", {}, link("#/campaigns/new", "New campaign", { class: "button" })) : null,
    chosen(context), trouble, list);
  await update();
  // A refusal stays to be read.
  const told = () => list.querySelector(".problem:not(:empty)") !== null;
  every(SECONDS, () => told() || update().then(() => fill(trouble), (error) => {
    if (error.name !== "AbortError") fill(trouble, problem(error));
  }), context.signal);
}

function chosen(context) {
  const { status = "", q = "", sort = SORTS[0][0] } = filters(context, "status", "q", "sort");
  return form([
    element("div", { class: "filters" },
      field("State", select("status", [["", "every state"], ...STATUSES.map((each) => [each, each])], status)),
      field("Name or description holds", input("q", { type: "search", value: q, maxlength: "200" })),
      field("Order", select("sort", SORTS, sort)),
      element("div", { class: "field" }, element("button", { type: "submit" }, "Show"))),
  ], (made) => context.go(hash("/campaigns", given(made))), { role: "search", "aria-label": "Campaigns" });
}

async function listed(context, done) {
  const query = { ...filters(context, "status", "q", "sort"), page: context.query.get("page") ?? 1 };
  const { data, pagination } = await context.api.get("/campaigns", query, context.signal);
  const operator = context.may("operator");
  const rows = data.map((each) => [
    link(`#/campaigns/${step(each.id)}`, each.name, { "data-key": each.id }),
    state(each.status),
    progress(each.stats),
    percent(each.stats.answer_rate),
    moment(each.stats.estimated_completion_at),
    moment(each.created_at),
    ...(operator ? [actions(context, each, done)] : []),
  ]);
  const headings = ["Campaign", "State", "Progress", "Answered", "Done by", "Made", ...(operator ? ["Actions"] : [])];
  return [table("Campaigns", headings, rows, "No campaign fits."), pages(context, pagination)];
}

function pages(context, { page, total, total_pages: last }) {
  const to = (wanted) => hash("/campaigns", { ...Object.fromEntries(context.query), page: wanted });
  return element("nav", { class: "pager", "aria-label": "Pages of the list" },
    page > 1 ? link(to(page - 1), "← Previous", { rel: "prev", "data-key": "previous" }) : null,
    element("span", {}, `page ${number(page)} of ${number(Math.max(last, 1))}, ${number(total)} in all`),
    page < last ? link(to(page + 1), "Next →", { rel: "next", "data-key": "next" }) : null);
}
