// The contacts of a campaign.

import { element, fill, link, section, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { head } from "/dashboard/campaign_head.js";
import { field, form, given, input, select } from "/dashboard/forms.js";
import { moment, number, words } from "/dashboard/format.js";
import { OUTCOMES } from "/dashboard/outcomes.js";
import { filters, hash, pager, part } from "/dashboard/paging.js";

const STATUSES = ["pending", "originated", "connected", "completed", "failed", "cancelled"];

export async function show(place, context) {
  const path = `/campaigns/${step(context.params.campaign)}`;
  const chosen = filters(context, "status", "outcome", "q");
  const [campaign, listing] = await Promise.all([
    context.api.get(path, {}, context.signal),
    part(context, `${path}/contacts`, chosen),
  ]);
  const open = context.may("operator") && ["draft", "active", "paused"].includes(campaign.status);
  fill(place, head(context, campaign),
    section("Contacts",
      open ? element("p", {}, link(`#${context.path}/new`, "Add contacts", { class: "button" })) : null,
      search(context, chosen), pager(context, listing), contactTable(context, listing.data), pager(context, listing)));
}

function search(context, { status = "", outcome = "", q = "" }) {
  return form([
    element("div", { class: "filters" },
      field("State", select("status", [["", "every state"], ...STATUSES.map((each) => [each, each])], status)),
      field("Last outcome", select("outcome", [["", "every outcome"], ...OUTCOMES.map((each) => [each, words(each)])], outcome)),
      field("Number, name, company, e-mail or id", input("q", { type: "search", value: q, maxlength: "200" })),
      element("div", { class: "field" }, element("button", { type: "submit" }, "Show"))),
  ], (made) => context.go(hash(context.path, given(made))), { role: "search", "aria-label": "Contacts" });
}

function contactTable(context, contacts) {
  const named = (each) => [each.first_name, each.last_name].filter(Boolean).join(" ") || null;
  return table("Contacts", ["Number", "Name", "Company", "State", "Last outcome", "Attempts", "Next attempt"], contacts.map((each) => [
    link(`#${context.path}/${step(each.id)}`, each.phone_number),
    named(each),
    each.company,
    state(each.status),
    words(each.last_outcome),
    number(each.attempts),
    moment(each.next_attempt_at),
  ]), "No contact fits.");
}
