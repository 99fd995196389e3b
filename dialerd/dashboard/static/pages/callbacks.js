// The callbacks that a campaign has promised; without a campaign, the choice of one.

import { button, confirmed, element, fill, heading, link, notice, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { head } from "/dashboard/campaign_head.js";
import { field, form, given, input, problem, select } from "/dashboard/forms.js";
import { localInput, moment } from "/dashboard/format.js";
import { pager, part } from "/dashboard/paging.js";

const FINISHED = ["completed", "cancelled"];

export async function show(place, context) {
  if (!context.params.campaign) {
    await choose(place, context);
    return;
  }
  const path = `/campaigns/${step(context.params.campaign)}`;
  const [campaign, listing] = await Promise.all([
    context.api.get(path, {}, context.signal),
    part(context, `${path}/callbacks`),
  ]);
  const open = context.may("operator") && !FINISHED.includes(campaign.status);
  const trouble = element("div", { role: "alert", class: "problem" });
  fill(place, head(context, campaign),
    section("Callbacks", trouble, pager(context, listing), callbackTable(context, path, listing.data, open, trouble)),
    open ? section("Promise a callback", promise(context, path)) : null);
}

async function choose(place, context) {
  const answers = await Promise.all(["active", "paused", "draft"].map((status) =>
    context.api.get("/campaigns", { status, per_page: 200 }, context.signal)));
  const open = answers.flatMap((each) => each.data);
  fill(place, heading("Callbacks"), open.length === 0
    ? element("p", { class: "empty" }, "Callbacks belong to campaigns, and none is open.")
    : form([
      field("Campaign", select("campaign", open.map((each) => [each.id, `${each.name} (${each.status})`]))),
      element("div", { class: "actions" }, element("button", { type: "submit" }, "Show its callbacks")),
    ], (made) => context.go(`#/campaigns/${step(given(made).campaign)}/callbacks`)));
}

function callbackTable(context, path, callbacks, open, trouble) {
  const headings = ["Due", "Number", "Note", "Promised", ...(open ? ["Actions"] : [])];
  return table("Callbacks", headings, callbacks.map((each) => [
    moment(each.due_at),
    link(`#${path}/contacts/${step(each.contact_id)}`, each.phone_number),
    each.note,
    moment(each.created_at),
    ...(open ? [button("Withdraw", () => withdraw(context, path, each, trouble), { class: "danger", "aria-label": `Withdraw the callback to ${each.phone_number}` })] : []),
  ]), "No callback is promised.");
}

async function withdraw(context, path, callback, trouble) {
  const details = "The contact is due at once, or cancelled where its calls were over before the promise.";
  if (await confirmed(`Withdraw the callback to ${callback.phone_number}?`, details, "Withdraw") === null) return;
  try {
    await context.api.remove(`${path}/callbacks/${step(callback.id)}`);
    notice("The callback is withdrawn.");
    context.again();
  } catch (error) {
    fill(trouble, problem(error));
  }
}

function promise(context, path) {
  const contact = context.query.get("contact_id");
  const soon = new Date(Math.ceil(Date.now() / 3600000) * 3600000);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return form([
    contact
      ? field("Number", input("number", { value: context.query.get("number") ?? contact, readonly: true }))
      : field("Number", input("phone_number", { type: "tel", required: true }), "One that the campaign does not have yet becomes a contact."),
    field("Due", input("due_at", { type: "datetime-local", required: true, value: localInput(soon) }), `In your own time zone, ${zone}.`),
    field("Note", input("note", { maxlength: "2000" })),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Promise the callback")),
  ], async (made) => {
    const values = given(made);
    const due = new Date(values.due_at ?? "");
    const who = contact ? { contact_id: contact } : { phone_number: values.phone_number };
    const body = { ...who, due_at: Number.isNaN(due.getTime()) ? undefined : due.toISOString(), note: values.note };
    const promised = await context.api.post(`${path}/callbacks`, body, { signal: context.signal });
    notice(`A callback to ${promised.phone_number} is promised for ${moment(promised.due_at)}.`);
    context.go(`#${path}/callbacks`);
  });
}
