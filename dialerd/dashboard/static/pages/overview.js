// What goes on now, and over the last while.

import { bar, element, facts, fill, heading, link, refill, section, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { progress } from "/dashboard/campaign_head.js";
import { Chart } from "/dashboard/charts.js";
import { problem } from "/dashboard/forms.js";
import { moment, number, percent } from "/dashboard/format.js";
import { rates } from "/dashboard/samples.js";

export async function show(place, context) {
  const { signal, sampler, role } = context;
  const system = role === "system";
  const trouble = element("div", { class: "problem", role: "alert" });
  const tiles = element("div", { class: "tiles" });
  const trunks = element("div");
  const campaigns = element("div");
  const tenants = element("div");
  const charts = {
    calls: new Chart("Calls per second", number, signal),
    slots: new Chart("Calls at once", number, signal),
    ...(system ? { tenants: new Chart("Calls at once, by tenant", number, signal) } : { rates: new Chart("Answered and abandoned", percent, signal) }),
  };
  fill(place, heading("Overview"), trouble, tiles,
    element("div", { class: "charts" }, Object.values(charts).map((each) => each.place)),
    section("Trunks", trunks),
    system ? section("Tenants", tenants) : section("Active campaigns", campaigns));
  const listed = system ? (await context.api.get("/tenants", { limit: 1000 }, signal)).data : [];
  await sampler.watch((sample, error) => {
    fill(trouble, error ? problem(error) : []);
    if (!sample) return;
    const series = rates(sampler.samples);
    refill(tiles, summary(sample, series.at(-1)));
    refill(trunks, trunkTable(sample.trunks));
    if (system) refill(tenants, tenantTable(listed, sample.tenants));
    else refill(campaigns, campaignTable(sample.campaigns));
    // A chart needs its width, which it has once the page is shown.
    requestAnimationFrame(() => { if (!signal.aborted) draw(charts, sampler.samples, series); });
  }, signal);
  if (sampler.samples.length === 0 && trouble.childElementCount === 0) fill(trouble, "Nothing is known yet.");
}

function summary(sample, rate) {
  const known = sample.trunks.every((each) => each.state !== "unknown");
  const used = known ? sample.trunks.reduce((sum, each) => sum + each.channels_in_use, 0) : null;
  const most = sample.trunks.reduce((sum, each) => sum + each.max_channels, 0);
  const sent = known ? sample.trunks.reduce((sum, each) => sum + each.calls_per_second, 0) : null;
  const limit = sample.trunks.reduce((sum, each) => sum + each.max_calls_per_second, 0);
  return facts([
    ["Trunk calls per second", `${number(sent)} of ${number(limit)}`],
    ["Trunk calls at once", `${number(used)} of ${number(most)}`],
    sample.campaigns ? ["Calls of this tenant", number(sample.in_flight)] : null,
    sample.campaigns ? ["Answered, last minute", percent(rate.answer)] : null,
    sample.campaigns ? ["Abandoned, last minute", percent(rate.abandon)] : null,
  ]);
}

function trunkTable(trunks) {
  return table("Trunks", ["Trunk", "State", "Calls at once", "Calls per second", "Answered of seized"], trunks.map((each) => [
    each.id,
    [state(each.state), each.reason ? ` ${each.reason}` : null],
    used(each.channels_in_use, each.max_channels, `Calls at once on ${each.id}`),
    used(each.calls_per_second, each.max_calls_per_second, `Calls per second on ${each.id}`),
    percent(each.answer_seizure_ratio),
  ]), "No trunk is configured for this tenant.");
}

function used(value, most, label) {
  return [bar(value, most, label), " ", element("span", { class: "whole" }, `${number(value)} of ${number(most)}`)];
}

function campaignTable(campaigns) {
  return table("Active campaigns", ["Campaign", "Progress", "In flight", "Answered", "Abandoned", "Done by"], campaigns.map((each) => [
    link(`#/campaigns/${step(each.id)}`, each.name, { "data-key": each.id }),
    progress(each.stats),
    number(each.stats.calls_in_flight),
    percent(each.stats.answer_rate),
    percent(each.stats.abandon_rate),
    moment(each.stats.estimated_completion_at),
  ]), "No campaign is active.");
}

function tenantTable(tenants, slots) {
  return table("Tenants", ["Tenant", "Calls at once", "Calls per second, at most", "Trunks", "Weight"], tenants.map((each) => [
    each.id,
    used(slots[each.id] ?? (Object.keys(slots).length ? 0 : null), each.max_concurrent_calls, `Calls at once of ${each.id}`),
    number(each.max_calls_per_second),
    each.trunks.join(", "),
    number(each.weight),
  ]), "There is no tenant.");
}

function draw(charts, samples, series) {
  const times = samples.map((each) => each.at);
  const names = samples.at(-1).trunks.map((each) => each.id);
  const column = (name, value) => samples.map((each) => each.trunks.find((trunk) => trunk.id === name)?.[value] ?? null);
  const own = charts.rates !== undefined;
  charts.calls.show([...names, ...(own ? ["this tenant"] : [])], times,
    [...names.map((name) => column(name, "calls_per_second")), ...(own ? [series.map((each) => each.calls)] : [])]);
  charts.slots.show([...names, ...(own ? ["this tenant"] : [])], times,
    [...names.map((name) => column(name, "channels_in_use")), ...(own ? [samples.map((each) => each.in_flight)] : [])]);
  const tenants = Object.keys(samples.at(-1).tenants ?? {});
  charts.tenants?.show(tenants, times, tenants.map((name) => samples.map((each) => each.tenants?.[name] ?? null)));
  charts.rates?.show(["answered", "abandoned"], times, [series.map((each) => each.answer), series.map((each) => each.abandon)]);
}
