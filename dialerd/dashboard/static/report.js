// What became of an upload: the counts, and the rejected rows with their reasons.

import { button, element, facts, fill, notice, paragraph, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { problem } from "/dashboard/forms.js";
import { count, number, percent } from "/dashboard/format.js";

export function report(context, campaignId, done) {
  const trouble = element("div", { role: "alert", class: "problem" });
  const path = `/campaigns/${step(campaignId)}/imports/${step(done.import_id)}/rejects.csv`;
  const download = () => context.api.download(path, `rejects-${done.import_id}.csv`)
    .catch((error) => fill(trouble, problem(error)));
  return element("div", {},
    facts([
      ["Added", number(done.added)],
      ["On the list already", number(done.duplicates)],
      ["On the do-not-call list", number(done.do_not_call)],
      ["Rejected", number(done.invalid)],
    ]),
    rejected(done.errors, done.invalid), trouble,
    done.invalid ? element("div", { class: "actions" }, button("Download the rejected rows", download, { class: "quiet" })) : null);
}

export function rejected(errors, invalid) {
  if (errors.length === 0) return null;
  return [
    invalid > errors.length ? paragraph(`The first ${errors.length} of ${count(invalid, "rejected row")}:`) : null,
    table("Rejected rows", ["Row", "Column", "Value", "Why"], errors.map((each) => [number(each.row), each.column, each.value, each.message])),
  ];
}

// All went in, and nothing needs to be looked at.
export const clean = (done) => done === null || done.invalid + done.duplicates + done.do_not_call === 0;

export function tell(done) {
  notice(`${count(done.added, "contact")} added.`);
}

// Sends an upload and shows how far it is.
export class Sending {
  constructor() {
    this.bar = element("progress", { max: 1, value: 0, "aria-label": "Sent" });
    this.status = element("span", { role: "status" });
    this.place = element("p", { hidden: true }, this.bar, " ", this.status);
  }

  async send(context, path, body, how) {
    this.place.hidden = false;
    try {
      return await context.api.upload(path, body, { ...how, signal: context.signal, onProgress: (share) => this.show(share) });
    } finally {
      this.place.hidden = true;
    }
  }

  show(share) {
    this.bar.value = share;
    fill(this.status, share < 1 ? `${percent(share)} sent` : "Sent. The daemon checks the rows …");
  }
}
