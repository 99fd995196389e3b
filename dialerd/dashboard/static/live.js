// A campaign's events as they happen. Many may come at once: they are shown together, a few times a second.

import { element, fill, link, refill, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { problem } from "/dashboard/forms.js";
import { clock, words } from "/dashboard/format.js";
import { follow } from "/dashboard/stream.js";

const MOST = 200;
const SHOW_MS = 250;
const TELL_MS = 2000;

export class Live {
  // onChange: something happened; called every two seconds at most.
  constructor(context, path, onChange) {
    this.path = context.path;
    this.events = [];
    this.drawing = null;
    this.telling = null;
    this.onChange = onChange;
    this.link = element("p", { role: "status" }, "Connecting …");
    this.list = element("div", { class: "live", tabindex: "0", role: "region", "aria-label": "Events, newest first" });
    this.place = element("div", {}, this.link, this.list);
    context.signal.addEventListener("abort", () => { clearTimeout(this.drawing); clearTimeout(this.telling); });
    follow(context.api, `${path}/events`, {
      signal: context.signal,
      onEvent: (event) => this.heard(event),
      onLink: (up) => {
        fill(this.link, up ? "Connected: events show here as they happen." : "The connection was lost; trying again.");
        if (up) this.changed();
      },
    }).catch((error) => { if (!context.signal.aborted) fill(this.link, problem(error)); });
    this.draw();
  }

  heard(event) {
    this.events.unshift(event);
    if (this.events.length > MOST) this.events.pop();
    this.drawing ??= setTimeout(() => { this.drawing = null; this.draw(); }, SHOW_MS);
    this.changed();
  }

  changed() {
    this.telling ??= setTimeout(() => { this.telling = null; this.onChange(); }, TELL_MS);
  }

  draw() {
    refill(this.list, table("Events", ["At", "Event", "Number", "State", "Outcome", "Why"], this.events.map(({ kind, id, data }) => [
      clock(data.at),
      words(kind),
      data.contact_id ? link(`#${this.path}/contacts/${step(data.contact_id)}`, data.phone_number ?? "contact", { "data-key": id }) : "–",
      data.status,
      words(data.outcome),
      data.reason ?? "–",
    ]), "Nothing has happened since this page was opened."));
  }
}
