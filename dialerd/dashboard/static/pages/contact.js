// One contact's history.

import { button, confirmed, element, every, facts, fill, heading, link, notice, paragraph, refill, section, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { explanation } from "/dashboard/explain.js";
import { problem } from "/dashboard/forms.js";
import { clock, moment, number, words } from "/dashboard/format.js";
import { hash } from "/dashboard/paging.js";
import { callTable } from "/dashboard/pages/calls.js";

const SECONDS = 15;
const STEPS = [["originated_at", "originated"], ["ringing_at", "ringing"], ["answered_at", "answered"], ["handed_over_at", "handed over"], ["ended_at", "ended"]];

export async function show(place, context) {
  const { api, params, signal } = context;
  const campaignPath = `/campaigns/${step(params.campaign)}`;
  const path = `${campaignPath}/contacts/${step(params.contact)}`;
  const [campaign, first] = await Promise.all([api.get(campaignPath, {}, signal), api.get(path, {}, signal)]);
  let contact = first;
  const top = element("div", { class: "contact-head" });
  const details = element("div");
  const trouble = element("div", { role: "alert", class: "problem" });
  const draw = () => {
    refill(top, paragraph(state(contact.status), " of ", link(`#${campaignPath}`, campaign.name)), actions(context, campaignPath, path, contact, trouble));
    refill(details, known(contact), calls(contact));
  };
  const why = explanation(signal, async () => {
    contact = await api.get(path, {}, signal);
    draw();
    return contact.explain;
  });
  const name = [contact.first_name, contact.last_name].filter(Boolean).join(" ");
  fill(place, heading(name ? `${name}, ${contact.phone_number}` : contact.phone_number),
    top, trouble, section("Why", why.place), details);
  await why.update();
  every(SECONDS, () => why.update().catch((error) => { if (error.name !== "AbortError") fill(trouble, problem(error)); }), signal);
}

function actions(context, campaignPath, path, contact, trouble) {
  if (!context.may("operator")) return null;
  const cancel = async () => {
    if (await confirmed(`Cancel ${contact.phone_number}?`, "It is not dialled any more in this campaign.", "Cancel the contact") === null) return;
    try {
      await context.api.remove(path);
      notice(`${contact.phone_number} is cancelled.`);
      context.again();
    } catch (error) {
      fill(trouble, problem(error));
    }
  };
  return element("div", { class: "actions" },
    contact.status === "pending" ? button("Cancel the contact", cancel, { class: "danger", "data-key": "cancel" }) : null,
    link(hash(`${campaignPath}/callbacks`, { contact_id: contact.id, number: contact.phone_number }), "Promise a callback", { class: "button", "data-key": "callback" }));
}

function known(contact) {
  return section("Contact", facts([
    ["Number", contact.phone_number],
    ["E-mail", contact.email],
    ["Company", contact.company],
    ["Time zone", contact.timezone],
    ["Priority", number(contact.priority)],
    ["External id", contact.external_id],
    ["Attempts", number(contact.attempts)],
    ["Last outcome", words(contact.last_outcome)],
    ["Next attempt", moment(contact.next_attempt_at)],
    ["Changed", moment(contact.updated_at)],
  ]), table("Attributes", ["Attribute", "Value"], Object.entries(contact.attributes), "It has no further attributes."));
}

function calls(contact) {
  return section("Calls", callTable(null, contact.calls), contact.calls.map((call) =>
    element("details", { "data-key": call.id }, element("summary", { "data-key": `summary ${call.id}` }, `Attempt ${call.attempt}, ${moment(call.originated_at)}: ${words(call.outcome ?? call.status)}`),
      element("ol", {}, STEPS.filter(([at]) => call[at]).map(([at, text]) => element("li", {}, `${clock(call[at])} ${text}`))))));
}
