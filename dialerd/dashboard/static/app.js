// The shell: signs in, shows the page that the address names, and ends what it had open when it is left.

import { Api, Problem } from "/dashboard/api.js";
import { button, element, fill, heading, link } from "/dashboard/dom.js";
import { problem } from "/dashboard/forms.js";
import { Sampler } from "/dashboard/samples.js";
import { forget, may, stored } from "/dashboard/session.js";
import * as agents from "/dashboard/pages/agents.js";
import * as callbacks from "/dashboard/pages/callbacks.js";
import * as calls from "/dashboard/pages/calls.js";
import * as campaign from "/dashboard/pages/campaign.js";
import * as campaigns from "/dashboard/pages/campaigns.js";
import * as contact from "/dashboard/pages/contact.js";
import * as contacts from "/dashboard/pages/contacts.js";
import * as doNotCall from "/dashboard/pages/do_not_call.js";
import * as keys from "/dashboard/pages/keys.js";
import * as newCampaign from "/dashboard/pages/new_campaign.js";
import * as newContacts from "/dashboard/pages/new_contacts.js";
import * as overview from "/dashboard/pages/overview.js";
import * as signIn from "/dashboard/pages/sign_in.js";
import * as trunks from "/dashboard/pages/trunks.js";
import * as webhook from "/dashboard/pages/webhook.js";
import * as webhooks from "/dashboard/pages/webhooks.js";

// [path, page, the least role that sees it; null: every key, a system key too; another role that does]
const ROUTES = [
  ["/", overview, null],
  ["/campaigns", campaigns, "viewer"],
  ["/campaigns/new", newCampaign, "operator"],
  ["/campaigns/:campaign", campaign, "viewer"],
  ["/campaigns/:campaign/contacts", contacts, "viewer"],
  ["/campaigns/:campaign/contacts/new", newContacts, "operator"],
  ["/campaigns/:campaign/contacts/:contact", contact, "viewer"],
  ["/campaigns/:campaign/calls", calls, "viewer"],
  ["/campaigns/:campaign/callbacks", callbacks, "viewer"],
  ["/callbacks", callbacks, "viewer"],
  ["/agents", agents, "viewer"],
  ["/dnc", doNotCall, "viewer"],
  ["/trunks", trunks, null],
  ["/webhooks", webhooks, "viewer"],
  ["/webhooks/:webhook", webhook, "viewer"],
  ["/keys", keys, "admin", "system"],
];
const MENU = [
  ["/", "Overview"], ["/campaigns", "Campaigns"], ["/callbacks", "Callbacks"], ["/agents", "Agents"],
  ["/dnc", "Do not call"], ["/trunks", "Trunks"], ["/webhooks", "Webhooks"], ["/keys", "Keys"],
];

const main = document.querySelector("main");
const header = document.querySelector("body > header");
let session = null;
let standby = false; // what answers only reads: another daemon dials
let left = new AbortController();
let sampler = null;

function route() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const steps = path.split("/");
  for (const [pattern, page, ...roles] of ROUTES) {
    const wanted = pattern.split("/");
    if (wanted.length !== steps.length || !wanted.every((each, index) => each.startsWith(":") || each === steps[index])) continue;
    const params = Object.fromEntries(wanted.flatMap((each, index) => (each.startsWith(":") ? [[each.slice(1), decoded(steps[index])]] : [])));
    return { path, page, roles, params, query: new URLSearchParams(query) };
  }
  return null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function allowed(roles) {
  return roles.some((role) => role === null || may(session.role, role));
}

async function show() {
  left.abort();
  left = new AbortController();
  if (session === null) {
    enter();
    return;
  }
  const found = route();
  frame(found?.path);
  const signal = left.signal;
  const place = element("div", { class: "page" });
  try {
    if (found === null) throw new Problem(404, { detail: "There is no such page." });
    if (!allowed(found.roles)) throw new Problem(403, { detail: `A ${session.role} key does not see this page.` });
    fill(main, element("p", { role: "status" }, "Loading …"));
    await found.page.show(place, context(found, signal));
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof Problem)) console.error(error);
    fill(place, heading("This did not work"), element("div", { role: "alert", class: "problem" }, problem(error)), button("Try again", show));
  }
  if (signal.aborted) return;
  fill(main, place);
  const title = place.querySelector("h1");
  document.title = `${title?.textContent ?? "dialerd"} – dialerd`;
  (title ?? main).focus({ preventScroll: true });
  scrollTo(0, 0);
}

function context(found, signal) {
  return {
    api: session.api,
    role: session.role,
    may: (role) => !standby && may(session.role, role),
    params: found.params,
    query: found.query,
    path: found.path,
    signal,
    sampler,
    go: (hash) => { if (location.hash === hash) show(); else location.hash = hash; },
    again: show,
  };
}

function frame(path) {
  const seen = MENU.filter(([to]) => allowed(ROUTES.find(([pattern]) => pattern === to).slice(2)));
  const here = (to) => (to === "/" ? path === "/" : path?.startsWith(to));
  fill(header,
    element("p", { class: "brand" }, "dialerd"),
    element("nav", { "aria-label": "Pages" }, element("ul", {}, seen.map(([to, text]) =>
      element("li", {}, link(`#${to}`, text, { "aria-current": here(to) ? "page" : null }))))),
    element("p", { class: "who" }, `${session.role} key `, button("Sign out", () => signOut(), { class: "quiet" })),
    standby ? element("p", { class: "standby", role: "status" }, "This is a standby: another daemon dials. All is shown, and nothing can be changed here.") : null);
}

// Told by each answer. What was shown as changeable is not, or the other way round.
function stand(now) {
  if (now === standby || session === null) return;
  standby = now;
  show();
}

function enter(words = null) {
  fill(header, element("p", { class: "brand" }, "dialerd"));
  signIn.show(main, words, (opened) => {
    open(opened);
    show();
  });
  document.title = "Sign in – dialerd";
}

function open({ key, role }) {
  session = { role, api: new Api(key, () => signOut("The key is not valid any more."), stand) };
  sampler = new Sampler(session.api, role);
}

function signOut(words = null) {
  if (session === null) return;
  left.abort();
  sampler.stop();
  session = sampler = null;
  forget();
  enter(words);
}

const kept = stored();
if (kept !== null) open(kept);
addEventListener("hashchange", show);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the router's
  main.focus();
});
show();
