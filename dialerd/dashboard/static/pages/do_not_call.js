// The numbers that must not be called.

import { button, confirmed, element, fill, heading, notice, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, form, given, input, problem } from "/dashboard/forms.js";
import { count, moment, percent } from "/dashboard/format.js";
import { pager, part } from "/dashboard/paging.js";
import { rejected } from "/dashboard/report.js";

export async function show(place, context) {
  const listing = await part(context, "/dnc");
  const admin = context.may("admin");
  const trouble = element("div", { role: "alert", class: "problem" });
  fill(place, heading("Do not call"), trouble, pager(context, listing), listed(context, listing.data, admin, trouble),
    admin ? element("div", { class: "columns" }, section("Add a number", addOne(context)), section("Upload many", addMany(context))) : null);
}

function listed(context, entries, admin, trouble) {
  return table("Numbers", ["Number", "Note", "Since", ...(admin ? ["Actions"] : [])], entries.map((each) => [
    each.phone_number,
    each.note,
    moment(each.created_at),
    ...(admin ? [button("Take off", () => takeOff(context, each.phone_number, trouble), { class: "danger", "aria-label": `Take ${each.phone_number} off the list` })] : []),
  ]), "No number is on the list.");
}

async function takeOff(context, number, trouble) {
  if (await confirmed(`Take ${number} off the list?`, "It may be called again. Contacts that were cancelled for it stay so.", "Take off") === null) return;
  try {
    await context.api.remove(`/dnc/${step(number)}`);
    notice(`${number} is off the list.`);
    context.again();
  } catch (error) {
    fill(trouble, problem(error));
  }
}

function addOne(context) {
  return form([
    field("Number", input("phone_number", { type: "tel", required: true }), "Its pending contacts are cancelled at once, in every campaign."),
    field("Note", input("note", { maxlength: "2000" }), "Why, or who said so."),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Add")),
  ], async (made) => {
    const values = given(made);
    const report = await context.api.post("/dnc", { phone_number: values.phone_number ?? "", note: values.note });
    if (report.invalid > 0) throw new Error(report.errors[0].message);
    notice(report.added ? "The number is on the list." : "The number was on the list already.");
    context.go("#/dnc");
  });
}

function addMany(context) {
  const file = input("file", { type: "file", accept: ".csv,.txt,text/csv", required: true });
  const sent = element("progress", { max: 1, value: 0, "aria-label": "Sent", hidden: true });
  const status = element("p", { role: "status" });
  const outcome = element("div");
  return form([
    field("File", file, "CSV with a column phone_number and, if wanted, note."),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Upload"), sent),
    status, outcome,
  ], async () => {
    if (!file.files.length) throw new Error("Choose a file.");
    sent.hidden = false;
    try {
      const report = await context.api.upload("/dnc", file.files[0], {
        media: "text/csv",
        signal: context.signal,
        onProgress: (share) => { sent.value = share; fill(status, share < 1 ? `${percent(share)} sent` : "The daemon reads the rows …"); },
      });
      fill(status, `${count(report.added, "number")} added, ${report.duplicates} on the list already, ${report.invalid} rejected.`);
      fill(outcome, rejected(report.errors, report.invalid), button("Show the list", context.again));
    } finally {
      sent.hidden = true;
    }
  });
}
