// One webhook: its state, what may be done to it, and what became of each event.

import { button, element, facts, fill, heading, link, notice, section, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, problem, select } from "/dashboard/forms.js";
import { moment, number, words } from "/dashboard/format.js";
import { filters, hash, pager, part } from "/dashboard/paging.js";
import { actions } from "/dashboard/pages/webhooks.js";

const STATES = ["retrying", "waiting", "delivered", "failed"];

export async function show(place, context) {
  const path = `/webhooks/${step(context.params.webhook)}`;
  const webhook = await context.api.get(path, {}, context.signal);
  const listing = await part(context, `${path}/deliveries`, filters(context, "status"));
  const admin = context.may("admin");
  const trouble = element("div", { role: "alert", class: "problem" });
  const chosen = select("status", [["", "all"], ...STATES.map((each) => [each, each])], context.query.get("status") ?? "", {
    onchange: () => context.go(hash(context.path, { status: chosen.value })),
  });
  fill(place, link("#/webhooks", "← Webhooks"), heading(webhook.url), trouble,
    facts([
      ["State", [state(webhook.status), webhook.disabled_reason ? ` ${webhook.disabled_reason}` : null]],
      ["Description", webhook.description],
      ["Told of", webhook.events.length ? webhook.events.map(words).join(", ") : "everything"],
      ["Campaign", webhook.campaign_id ? link(`#/campaigns/${step(webhook.campaign_id)}`, webhook.campaign_id) : "all"],
      ["Failing since", moment(webhook.failing_since)],
      ["Made", moment(webhook.created_at)],
    ]),
    admin ? actions(context, webhook, trouble, context.again) : null,
    section("Deliveries", element("div", { class: "filters" }, field("State", chosen)), pager(context, listing),
      deliveryTable(context, listing.data, admin, path, trouble)));
}

function deliveryTable(context, deliveries, admin, path, trouble) {
  const headings = ["Event", "State", "Attempts", "Answer", "Last attempt", "Next attempt", ...(admin ? ["Actions"] : [])];
  return table("Deliveries", headings, deliveries.map((each) => [
    [words(each.event), ` ${each.id}`],
    each.status,
    number(each.attempts),
    each.error ?? each.status_code,
    moment(each.last_attempt_at),
    moment(each.next_attempt_at),
    ...(admin ? [button("Send again", () => again(context, each, path, trouble), { class: "quiet", "aria-label": `Send ${each.id} again` })] : []),
  ]), "Nothing was delivered yet.");
}

async function again(context, delivery, path, trouble) {
  try {
    const told = await context.api.post(`${path}/deliveries/${step(delivery.id)}/redeliver`);
    notice(`Event ${told.id}: ${told.status}.`);
    context.again();
  } catch (error) {
    fill(trouble, problem(error));
  }
}
