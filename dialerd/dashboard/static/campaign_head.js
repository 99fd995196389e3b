// What every page of one campaign has on top: its name, state and actions, and the ways to its other pages.

import { bar, button, confirmed, element, heading, link, notice, paragraph, state } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { checkbox, problem } from "/dashboard/forms.js";
import { number } from "/dashboard/format.js";

const ACTIONS = {
  draft: ["start", "stop"],
  active: ["pause", "stop"],
  paused: ["resume", "stop"],
};
const ASKED = {
  start: ["Start", "Contacts are called from now on, within the calling hours."],
  pause: ["Pause", "No new calls go out. Calls in flight finish."],
  resume: ["Resume", "Contacts are called again, within the calling hours."],
  stop: ["Stop", "This cannot be undone: every pending contact is cancelled."],
};
const PAGES = [["", "State"], ["/contacts", "Contacts"], ["/calls", "Calls"], ["/callbacks", "Callbacks"]];

export function head(context, campaign) {
  const below = `#/campaigns/${step(campaign.id)}`;
  return element("div", { class: "campaign-head" },
    heading(campaign.name),
    paragraph(state(campaign.status), campaign.description ? ` ${campaign.description}` : null),
    actions(context, campaign, context.again),
    element("nav", { class: "tabs", "aria-label": "Pages of the campaign" }, element("ul", {}, PAGES.map(([to, text]) =>
      element("li", {}, link(below + to, text, { "aria-current": `#${context.path}` === below + to ? "page" : null }))))));
}

// The buttons that this key and this state allow. `done` is called when the campaign has changed.
export function actions(context, campaign, done) {
  const trouble = element("div", { role: "alert", class: "problem" });
  if (!context.may("operator")) return null;
  const buttons = (ACTIONS[campaign.status] ?? []).map((action) =>
    button(ASKED[action][0], () => act(context, campaign, action, trouble, done),
      { "data-key": `${action} ${campaign.id}`, "aria-label": `${ASKED[action][0]} ${campaign.name}`, class: action === "stop" ? "danger" : null }));
  return buttons.length ? element("div", { class: "actions" }, buttons, trouble) : null;
}

async function act(context, campaign, action, trouble, done) {
  const [word, meaning] = ASKED[action];
  const more = action === "stop" ? [checkbox("hangup", "Hang up the calls in flight, too")] : [];
  const answer = await confirmed(`${word} “${campaign.name}”?`, meaning, word, ...more);
  if (answer === null) return;
  trouble.replaceChildren();
  try {
    const body = answer.hangup ? { hangup: true } : undefined;
    const changed = await context.api.post(`/campaigns/${step(campaign.id)}/${action}`, body);
    notice([`“${changed.name}” is ${changed.status}.`, ...(changed.warnings ?? [])].join(" "));
    done();
  } catch (error) {
    trouble.replaceChildren(...problem(error).filter(Boolean));
  }
}

export function progress(stats) {
  const through = stats.completed + stats.failed + stats.cancelled;
  const text = `${number(through)} of ${number(stats.total)}`;
  return element("span", { class: "progress" }, bar(through, stats.total, `Contacts that are through: ${text}`), " ", element("span", { class: "whole" }, text));
}
