// Where answered calls go: places of the dialplan, queues, and applications that the configuration allows.

import { button, confirmed, element, fill, heading, notice, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, form, given, input, problem, select } from "/dashboard/forms.js";
import { number } from "/dashboard/format.js";
import { pager, part } from "/dashboard/paging.js";

// Each kind's own fields: [name, label, attributes, hint].
const KINDS = {
  dialplan: ["A place in the dialplan", [
    ["context", "Context", { required: true }, "As in extensions.conf, or the dialplan's <context>."],
    ["exten", "Extension", { required: true }, null],
    ["priority", "Priority", { type: "number", min: "1" }, "1, if left empty."],
  ]],
  queue: ["A queue", [["queue", "Queue", { required: true }, "Its name on the PBX."]]],
  application: ["An application", [
    ["application", "Application", { required: true }, "Only those that the configuration allows."],
    ["data", "Data", {}, null],
  ]],
};

export async function show(place, context) {
  const listing = await part(context, "/agents");
  const admin = context.may("admin");
  const trouble = element("div", { role: "alert", class: "problem" });
  fill(place, heading("Agents"), trouble, pager(context, listing), agentTable(context, listing.data, admin, trouble),
    admin ? section("New agent", newAgent(context)) : null);
}

function agentTable(context, agents, admin, trouble) {
  return table("Agents", ["Name", "Kind", "Place", "Calls at once", ...(admin ? ["Actions"] : [])], agents.map((each) => [
    each.name,
    each.kind,
    where(each),
    each.max_concurrent_calls === null ? "no limit of its own" : number(each.max_concurrent_calls),
    ...(admin ? [button("Remove", () => remove(context, each, trouble), { class: "danger", "aria-label": `Remove agent ${each.name}` })] : []),
  ]), "There is no agent yet; a campaign needs one.");
}

function where(agent) {
  if (agent.kind === "queue") return agent.queue;
  if (agent.kind === "application") return agent.data ? `${agent.application}(${agent.data})` : agent.application;
  return `${agent.context},${agent.exten},${agent.priority}`;
}

async function remove(context, agent, trouble) {
  if (await confirmed(`Remove agent ${agent.name}?`, "An agent that an unfinished campaign uses stays.", "Remove") === null) return;
  try {
    await context.api.remove(`/agents/${step(agent.id)}`);
    notice(`Agent ${agent.name} is removed.`);
    context.again();
  } catch (error) {
    fill(trouble, problem(error));
  }
}

function newAgent(context) {
  const own = element("div");
  const kind = select("kind", Object.entries(KINDS).map(([value, [text]]) => [value, text]), "dialplan", { onchange: () => ask() });
  const ask = () => fill(own, KINDS[kind.value][1].map(([name, label, attributes, hint]) => field(label, input(name, attributes), hint)));
  ask();
  return form([
    field("Name", input("name", { required: true, maxlength: "200" })),
    field("Kind", kind),
    own,
    field("Calls at once", input("max_concurrent_calls", { type: "number", min: "1" }), "Over all campaigns that use it; left empty, no limit of its own."),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Make the agent")),
  ], async (made) => {
    const { priority, max_concurrent_calls: most, ...texts } = given(made);
    const numbers = { priority, max_concurrent_calls: most };
    const body = { name: "", ...texts };
    for (const [name, value] of Object.entries(numbers)) if (value !== undefined) body[name] = Number(value);
    const agent = await context.api.post("/agents", body);
    notice(`Agent ${agent.name} is made.`);
    context.again();
  });
}
