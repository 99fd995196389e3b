// One campaign: how it stands, why it is silent or not, and its events as they happen.

import { button, element, every, facts, fill, refill, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { head, progress } from "/dashboard/campaign_head.js";
import { explanation } from "/dashboard/explain.js";
import { problem } from "/dashboard/forms.js";
import { duration, moment, number, percent, words } from "/dashboard/format.js";
import { Live } from "/dashboard/live.js";

const SECONDS = 15;
const CONTACTS = ["pending", "originated", "connected", "completed", "failed", "cancelled"];
const FINISHED = ["completed", "cancelled"];

export async function show(place, context) {
  const { api, signal, params } = context;
  const path = `/campaigns/${step(params.campaign)}`;
  const top = element("div");
  const figures = element("div");
  const trouble = element("div", { class: "problem", role: "alert" });
  const why = explanation(signal, () => api.get(`${path}/explain`, {}, signal));
  let campaign = null;
  const update = async () => {
    const before = campaign;
    campaign = await api.get(path, {}, signal);
    // The heading has the focus when the page opens; it is made anew only where it would say something else.
    if (before?.status !== campaign.status || before.name !== campaign.name) refill(top, head({ ...context, again: update }, campaign));
    refill(figures, statistics(campaign));
    if (FINISHED.includes(campaign.status)) fill(why.place, `The campaign is ${campaign.status}.`);
    else await why.update();
  };
  const refresh = () => update().then(() => fill(trouble), (error) => {
    if (error.name !== "AbortError") fill(trouble, problem(error));
  });
  await update();
  const live = new Live(context, path, refresh);
  fill(place, top, trouble, section("Why", why.place), figures, section("Live", live.place), section("Files", files(context, campaign, trouble)));
  every(SECONDS, refresh, signal);
}

function statistics(campaign) {
  const { stats, settings } = campaign;
  const outcomes = Object.entries(stats.outcomes).filter(([, value]) => value > 0);
  return element("div", { class: "columns" },
    section("Statistics", facts([
      ["Contacts that are through", progress(stats)],
      ["Done by, as it goes now", moment(stats.estimated_completion_at)],
      ["Calls placed", number(stats.calls_placed)],
      ["Calls in flight", `${number(stats.calls_in_flight)} of ${number(settings.concurrent_calls)}`],
      ["Answered", percent(stats.answer_rate)],
      ["Abandoned", percent(stats.abandon_rate)],
      ["Talk, on average", duration(stats.average_talk_seconds)],
      ["Started", moment(campaign.started_at)],
      ["Ended", moment(campaign.completed_at)],
      ["Calling hours", `${settings.calling_hours_start}–${settings.calling_hours_end} ${settings.timezone}`],
    ])),
    section("Contacts", table("Contacts by state", ["State", "Contacts"], CONTACTS.map((each) => [each, number(stats[each])]))),
    section("Outcomes", table("Calls by outcome", ["Outcome", "Calls"], outcomes.map(([each, value]) => [words(each), number(value)]), "No call has ended yet.")));
}

function files(context, campaign, trouble) {
  const name = `results-${campaign.id}.csv`;
  return element("div", { class: "actions" },
    button("Download the results", () => context.api.download(`/campaigns/${step(campaign.id)}/results.csv`, name)
      .catch((error) => fill(trouble, problem(error))), { class: "quiet" }));
}
