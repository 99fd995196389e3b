// Makes a campaign, with its contacts in the same request.

import { element, fill, heading, link, section } from "/dashboard/dom.js";
import { fresh, step } from "/dashboard/api.js";
import { checkbox, field, form, given, input, select } from "/dashboard/forms.js";
import { ContactsFile } from "/dashboard/mapping.js";
import { Sending, clean, report, tell } from "/dashboard/report.js";

const DAYS = [["mon", "Mon"], ["tue", "Tue"], ["wed", "Wed"], ["thu", "Thu"], ["fri", "Fri"], ["sat", "Sat"], ["sun", "Sun"]];
const OWN = "Empty: as the tenant's defaults say.";

export async function show(place, context) {
  const agents = (await context.api.get("/agents", { limit: 1000 }, context.signal)).data;
  const file = new ContactsFile();
  const sending = new Sending();
  // The same form sent again after a lost answer makes no second campaign.
  let attempt = fresh();
  const made = form([
    field("Name", input("name", { required: true, maxlength: "200" })),
    field("Description", input("description", { maxlength: "2000" })),
    field("Agent", select("agent_id", [["", "the tenant's default"], ...agents.map((each) => [each.id, `${each.name} (${each.kind})`])]),
      "Where answered calls go."),
    hours(), limits(), file.place,
    field("A row that is rejected", select("on_invalid", [["skip", "is left out, the others are added"], ["reject", "keeps the whole file out"]])),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Create the campaign")),
    sending.place,
  ], async () => {
    const body = await multipart(made, file);
    try {
      const campaign = await sending.send(context, "/campaigns", body, { idempotency: attempt });
      created(place, context, campaign);
    } catch (error) {
      if (error.status !== 0) attempt = fresh(); // the daemon has answered: the next is another
      throw error;
    }
  }, { oninput: () => { attempt = fresh(); } });
  fill(place, heading("New campaign"), made);
}

function hours() {
  const zones = [...new Set(["UTC", ...Intl.supportedValuesOf("timeZone")])];
  return element("fieldset", {}, element("legend", {}, "Calling hours"),
    element("div", { class: "columns" },
      field("From", input("calling_hours_start", { type: "time" }), OWN),
      field("Until", input("calling_hours_end", { type: "time" }), "The same as from: the whole day.")),
    field("Time zone", input("timezone", { list: "zones", placeholder: "Europe/London" }), OWN),
    element("datalist", { id: "zones" }, zones.map((each) => element("option", { value: each }))),
    element("div", { role: "group", "aria-label": "Calling days" }, DAYS.map(([value, text]) =>
      checkbox("calling_days", text, { value })), element("p", { class: "hint" }, "None: as the tenant's defaults say.")));
}

function limits() {
  return element("fieldset", {}, element("legend", {}, "Calls"),
    element("div", { class: "columns" },
      field("Calls at once", input("concurrent_calls", { type: "number", min: "1", inputmode: "numeric" }), OWN),
      field("Retries of a contact", input("max_retries", { type: "number", min: "0", inputmode: "numeric" }), OWN)),
    checkbox("keep_open", "Stay open when every contact is through"));
}

async function multipart(made, file) {
  const contacts = await file.body();
  const values = given(made);
  const days = new FormData(made).getAll("calling_days");
  delete values.calling_days;
  if (days.length > 0) values.calling_days = days.join(",");
  if (contacts === null) delete values.on_invalid;
  const body = new FormData();
  for (const [name, value] of Object.entries(values)) body.append(name, value);
  if (contacts !== null) body.append("contacts", new Blob([contacts], { type: "text/csv" }), file.input.files[0].name);
  return body;
}

function created(place, context, campaign) {
  const to = `#/campaigns/${step(campaign.id)}`;
  const done = campaign.import ?? null;
  if (clean(done)) {
    if (done) tell(done);
    context.go(to);
    return;
  }
  fill(place, heading(`“${campaign.name}” is made`), section("Its contacts", report(context, campaign.id, done)),
    element("p", {}, link(to, "Open the campaign", { class: "button" })));
  place.querySelector("h1").focus();
}
