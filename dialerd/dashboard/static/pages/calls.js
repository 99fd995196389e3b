// Every call attempt of a campaign.

import { element, fill, link, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { head } from "/dashboard/campaign_head.js";
import { field, form, given, select } from "/dashboard/forms.js";
import { duration, moment, words } from "/dashboard/format.js";
import { OUTCOMES } from "/dashboard/outcomes.js";
import { filters, hash, pager, part } from "/dashboard/paging.js";

export async function show(place, context) {
  const path = `/campaigns/${step(context.params.campaign)}`;
  const chosen = filters(context, "outcome", "contact_id");
  const [campaign, listing] = await Promise.all([
    context.api.get(path, {}, context.signal),
    part(context, `${path}/calls`, chosen),
  ]);
  fill(place, head(context, campaign),
    section("Calls", search(context, chosen), pager(context, listing), callTable(path, listing.data), pager(context, listing)));
}

function search(context, { outcome = "" }) {
  return form([
    element("div", { class: "filters" },
      field("Outcome", select("outcome", [["", "every outcome"], ...OUTCOMES.map((each) => [each, words(each)])], outcome)),
      element("div", { class: "field" }, element("button", { type: "submit" }, "Show"))),
  ], (made) => context.go(hash(context.path, given(made))), { role: "search", "aria-label": "Calls" });
}

// path: of the campaign, for the links to each contact; null where the contact is the page's own.
export function callTable(path, calls) {
  return table("Calls", ["Placed", "Number", "Attempt", "Outcome", "Talk", "Trunk", "Why it ended", "Whose fault"], calls.map((each) => [
    moment(each.originated_at),
    path ? link(`#${path}/contacts/${step(each.contact_id)}`, each.phone_number) : each.phone_number,
    each.attempt,
    each.outcome ? words(each.outcome) : words(each.status),
    each.talk_seconds === null ? "–" : duration(each.talk_seconds),
    `${each.trunk} (${each.pbx})`,
    cause(each),
    words(each.fault),
  ]), "No call was placed yet.");
}

function cause(call) {
  const parts = [
    call.hangup_text,
    call.hangup_cause === null ? null : `Q.850 ${call.hangup_cause}`,
    call.sip_status === null ? null : `SIP ${call.sip_status}`,
    call.hung_up_by ? `hung up by ${words(call.hung_up_by)}` : null,
  ];
  return parts.filter(Boolean).join(", ") || "–";
}
