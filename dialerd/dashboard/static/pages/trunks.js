// The ways out. They belong to the configuration file; a system key may pause them.

import { bar, button, confirmed, element, every, fill, heading, notice, refill, state, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, input, problem } from "/dashboard/forms.js";
import { number, percent } from "/dashboard/format.js";

const SECONDS = 5;

export async function show(place, context) {
  const list = element("div");
  const trouble = element("div", { class: "problem", role: "alert" });
  const update = async () => {
    const { data } = await context.api.get("/trunks", { limit: 1000 }, context.signal);
    refill(list, trunkTable(context, data, act));
  };
  const act = async (trunk, action, body) => {
    try {
      const changed = await context.api.post(`/trunks/${step(trunk)}/${action}`, body);
      notice(`Trunk ${changed.id} is ${changed.state}.`);
      fill(trouble);
      await update();
    } catch (error) {
      fill(trouble, problem(error));
    }
  };
  fill(place, heading("Trunks"), trouble, list);
  await update();
  every(SECONDS, () => update().catch((error) => { if (error.name !== "AbortError") fill(trouble, problem(error)); }), context.signal);
}

function trunkTable(context, trunks, act) {
  const system = context.may("system");
  const headings = ["Trunk", "PBX", "State", "Calls at once", "Calls per second", "Answered of seized", ...(system ? ["Actions"] : [])];
  return table("Trunks", headings, trunks.map((each) => [
    each.id,
    each.pbx,
    [state(each.state), each.reason ? ` ${each.reason}` : null],
    [bar(each.channels_in_use, each.max_channels, `Calls at once on ${each.id}`), " ", element("span", { class: "whole" }, `${number(each.channels_in_use)} of ${number(each.max_channels)}`)],
    `${number(each.calls_per_second)} of ${number(each.max_calls_per_second)}`,
    percent(each.answer_seizure_ratio),
    ...(system ? [action(each, act)] : []),
  ]), "No trunk is configured.");
}

function action(trunk, act) {
  const key = { "data-key": `action ${trunk.id}` };
  if (trunk.state === "paused") return button("Resume", () => act(trunk.id, "resume"), { ...key, "aria-label": `Resume trunk ${trunk.id}` });
  return button("Pause", async () => {
    const why = field("Reason", input("reason", { maxlength: "200" }), "Everybody who asks why nothing is dialled reads it.");
    const answer = await confirmed(`Pause trunk ${trunk.id}?`, "It carries no new calls, over restarts too. Calls in flight finish.", "Pause", why);
    if (answer !== null) await act(trunk.id, "pause", answer.reason.trim() ? { reason: answer.reason.trim() } : undefined);
  }, { ...key, class: "danger", "aria-label": `Pause trunk ${trunk.id}` });
}
