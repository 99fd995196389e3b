// Webhooks: endpoints that are told of what happens. A new one's secret is shown once, here and nowhere else.

import { button, confirmed, element, fill, heading, link, notice, paragraph, section, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, form, given, input, problem } from "/dashboard/forms.js";
import { moment, words } from "/dashboard/format.js";
import { pager, part } from "/dashboard/paging.js";

export async function show(place, context) {
  const listing = await part(context, "/webhooks");
  const list = element("div");
  const update = (shown) => fill(list, pager(context, shown), webhookTable(shown.data));
  update(listing);
  fill(place, heading("Webhooks"), list,
    context.may("admin") ? section("New webhook", newWebhook(context, async () => update(await part(context, "/webhooks")))) : null);
}

function webhookTable(webhooks) {
  return table("Webhooks", ["Address", "Told of", "State", "Failing since", "Made"], webhooks.map((each) => [
    link(`#/webhooks/${step(each.id)}`, each.url),
    [each.events.length ? each.events.map(words).join(", ") : "everything", each.campaign_id ? ` of campaign ${each.campaign_id}` : null],
    [state(each.status), each.disabled_reason ? ` ${each.disabled_reason}` : null],
    moment(each.failing_since),
    moment(each.created_at),
  ]), "There is no webhook.");
}

function newWebhook(context, update) {
  const shown = element("div", { role: "status" });
  const made = form([
    field("Address", input("url", { type: "url", required: true, maxlength: "2000", placeholder: "https://" }), "It is sent events by POST, signed as Standard Webhooks."),
    field("Description", input("description", { maxlength: "2000" })),
    field("Told of", input("events"), "Kinds of events, separated by commas (completed, failed, …); left empty, of everything."),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Make the webhook")),
  ], async (filled) => {
    const { events, ...texts } = given(filled);
    const webhook = await context.api.post("/webhooks", { url: "", ...texts, events: kinds(events) });
    filled.reset();
    fill(shown, once(webhook));
    await update();
    shown.querySelector("input").select();
  });
  return [made, shown];
}

const kinds = (text = "") => text.split(",").map((each) => each.trim()).filter(Boolean);

export function once(webhook) {
  return element("div", { class: "explain" },
    paragraph("Its secret, with which you check the signatures. Keep it now: it is not shown again."),
    field("The secret", input("secret", { readonly: true, value: webhook.secret })));
}

// What may be done to one; `done` is called after.
export function actions(context, webhook, trouble, done) {
  const act = (work, words, next = done) => async () => {
    try {
      const said = await work();
      notice(typeof words === "function" ? words(said) : words);
      next();
    } catch (error) {
      fill(trouble, problem(error));
    }
  };
  const path = `/webhooks/${step(webhook.id)}`;
  const enabled = webhook.status === "enabled";
  const remove = async () => {
    if (await confirmed("Remove the webhook?", "It is told nothing from then on.", "Remove") === null) return;
    // Its own page has nothing to show any more.
    await act(() => context.api.remove(path), "The webhook is removed.", () => context.go("#/webhooks"))();
  };
  return element("div", { class: "actions" },
    button(enabled ? "Switch off" : "Switch on", act(() => context.api.patch(path, { status: enabled ? "disabled" : "enabled" }), enabled ? "It is switched off." : "It is told of what happens from now on.")),
    button("Send a test", act(() => context.api.post(`${path}/test`), (said) => (said.delivered ? `Delivered, in ${said.seconds} s.` : `Not delivered: ${said.error ?? said.status_code}`)), { class: "quiet" }),
    button("Remove", remove, { class: "danger" }));
}
