// What happens over time. The API tells how things stand now, and counts that only grow; asked now and then, their
// differences are rates. Kept for as long as the tab is signed in, an hour at most.

import { step } from "/dashboard/api.js";
import { every } from "/dashboard/dom.js";
import { OUTCOMES } from "/dashboard/outcomes.js";

export const SECONDS = 5; // while the overview is looked at
const UNWATCHED = 6; // on other pages, every so many times
const MOST = 720;
const WINDOW_SECONDS = 60; // that a rate looks back on
const SLOTS = /^dialerd_slots_used\{level="tenant",name="([\w-]+)"\} (\S+)$/gm; // of Prometheus' text format
const ANSWERED = ["answered", "machine", "abandoned"];

export class Sampler {
  constructor(api, role) {
    this.api = api;
    this.role = role;
    this.samples = [];
    this.watcher = null;
    this.taking = null;
    this.left = new AbortController();
    this.seen = new Map();
    this.totals = { placed: 0, ended: 0, answered: 0, people: 0, abandoned: 0 };
    let round = 0;
    every(SECONDS, async () => {
      round += 1;
      if (this.watcher || round % UNWATCHED === 0) await this.take();
    }, this.left.signal);
  }

  stop() {
    this.left.abort();
  }

  // One watcher at a time: watcher(sample, problem) after each, until the signal.
  async watch(watcher, signal) {
    this.watcher = watcher;
    signal.addEventListener("abort", () => { if (this.watcher === watcher) this.watcher = null; });
    await this.take();
  }

  // One at a time: who asks meanwhile gets the same.
  take() {
    this.taking ??= this.taken().finally(() => { this.taking = null; });
    return this.taking;
  }

  async taken() {
    try {
      const sample = await this.sample();
      this.samples.push(sample);
      if (this.samples.length > MOST) this.samples.shift();
      this.watcher?.(sample, null);
    } catch (error) {
      if (this.left.signal.aborted) return;
      this.watcher?.(null, error);
    }
  }

  async sample() {
    const signal = this.left.signal;
    const trunks = (await this.api.get("/trunks", { limit: 1000 }, signal)).data;
    if (this.role === "system") return { at: Date.now() / 1000, trunks, campaigns: null, tenants: await slotsOfTenants(signal), ...this.totals };
    const active = await this.active(signal);
    const here = new Set(active.map((each) => each.id));
    // Who was active the last time and is not any more has its last calls counted, too.
    const gone = [...this.seen].filter(([id, counts]) => counts.active && !here.has(id)).map(([id]) => id);
    const ended = await Promise.all(gone.map((id) => this.api.get(`/campaigns/${step(id)}`, {}, signal).catch(() => null)));
    for (const id of gone) this.seen.get(id).active = false;
    for (const each of [...active, ...ended.filter(Boolean)]) this.count(each);
    const flying = active.reduce((sum, each) => sum + each.stats.calls_in_flight, 0);
    return { at: Date.now() / 1000, trunks, campaigns: active, in_flight: flying, ...this.totals };
  }

  async active(signal) {
    const found = [];
    for (let page = 1; ; page += 1) {
      const { data, pagination } = await this.api.get("/campaigns", { status: "active", per_page: 200, page }, signal);
      found.push(...data);
      if (page >= pagination.total_pages) return found;
    }
  }

  count(campaign) {
    const counts = countsOf(campaign.stats);
    const last = this.samples.at(-1);
    const begun = last && Date.parse(campaign.started_at) / 1000 > last.at; // all of it happened since
    const before = this.seen.get(campaign.id) ?? (begun ? {} : counts);
    for (const name of Object.keys(this.totals)) this.totals[name] += counts[name] - (before[name] ?? 0);
    this.seen.set(campaign.id, { ...counts, active: campaign.status === "active" });
  }
}

// Calls at once by tenant. The API tells a tenant its own only; the daemon's metrics, which ask for no key, all of them.
async function slotsOfTenants(signal) {
  const answer = await fetch("/metrics", { signal });
  const text = answer.ok ? await answer.text() : "";
  return Object.fromEntries([...text.matchAll(SLOTS)].map(([, name, value]) => [name, Number(value)]));
}

function countsOf(stats) {
  const sum = (names) => names.reduce((total, name) => total + (stats.outcomes[name] ?? 0), 0);
  return {
    placed: stats.calls_placed,
    ended: sum(OUTCOMES),
    answered: sum(ANSWERED),
    people: sum(["answered", "abandoned"]),
    abandoned: sum(["abandoned"]),
  };
}

// The rates at each sample, looking back a minute; null where nothing happened in it.
export function rates(samples) {
  return samples.map((sample, index) => {
    let first = index;
    while (first > 0 && sample.at - samples[first - 1].at <= WINDOW_SECONDS) first -= 1;
    const before = samples[first];
    const grown = (name) => sample[name] - before[name];
    const share = (part, whole) => (grown(whole) > 0 ? grown(part) / grown(whole) : null);
    const previous = samples[index - 1];
    return {
      calls: previous ? (sample.placed - previous.placed) / Math.max(sample.at - previous.at, 0.001) : null,
      answer: share("answered", "ended"),
      abandon: share("abandoned", "people"),
    };
  });
}
