// Adds contacts to a campaign.

import { element, fill, section } from "/dashboard/dom.js";
import { fresh, step } from "/dashboard/api.js";
import { head } from "/dashboard/campaign_head.js";
import { field, form, select } from "/dashboard/forms.js";
import { ContactsFile } from "/dashboard/mapping.js";
import { Sending, clean, report, tell } from "/dashboard/report.js";

export async function show(place, context) {
  const path = `/campaigns/${step(context.params.campaign)}`;
  const campaign = await context.api.get(path, {}, context.signal);
  const file = new ContactsFile();
  const sending = new Sending();
  const outcome = element("div", { role: "status" });
  const onInvalid = select("on_invalid", [["skip", "is left out, the others are added"], ["reject", "keeps the whole file out"]]);
  const made = form([
    file.place,
    field("A row that is rejected", onInvalid),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Add the contacts")),
    sending.place, outcome,
  ], async () => {
    const body = await file.body();
    if (body === null) throw new Error("Choose a file.");
    fill(outcome);
    const how = { media: "text/csv", idempotency: fresh() };
    const done = await sending.send(context, `${path}/contacts?on_invalid=${onInvalid.value}`, body, how);
    if (clean(done)) {
      tell(done);
      context.go(`#${path}/contacts`);
    } else {
      fill(outcome, report(context, campaign.id, done));
    }
  });
  fill(place, head(context, campaign), section("Add contacts", made));
}
