// Keys of the API. A new one is shown once, here and nowhere else: the daemon keeps a digest.

import { button, confirmed, element, fill, heading, notice, paragraph, section, table } from "/dashboard/dom.js";
import { step } from "/dashboard/api.js";
import { field, form, given, input, problem, select } from "/dashboard/forms.js";
import { moment } from "/dashboard/format.js";
import { pager, part } from "/dashboard/paging.js";

const ROLES = [["viewer", "viewer: looks"], ["operator", "operator: runs campaigns"], ["admin", "admin: keys, agents and do-not-call, too"]];

export async function show(place, context) {
  const system = context.may("system");
  const trouble = element("div", { role: "alert", class: "problem" });
  const list = element("div");
  const update = async () => {
    const listing = await part(context, "/keys");
    fill(list, pager(context, listing), keyTable(listing.data, system, (key) => remove(context, key, trouble)));
  };
  await update();
  fill(place, heading("Keys"), trouble, list, section("New key", newKey(context, system, update)));
}

function keyTable(keys, system, removed) {
  return table("Keys", ["Name", ...(system ? ["Tenant"] : []), "Role", "Made", "Actions"], keys.map((each) => [
    each.name,
    ...(system ? [each.tenant] : []),
    each.role,
    moment(each.created_at),
    button("Delete", () => removed(each), { class: "danger", "aria-label": `Delete key ${each.name}` }),
  ]), "There is no key.");
}

async function remove(context, key, trouble) {
  const details = "It opens nothing from then on. If it is the one that you are signed in with, you are signed out.";
  if (await confirmed(`Delete key ${key.name}?`, details, "Delete") === null) return;
  try {
    await context.api.remove(`/keys/${step(key.id)}`);
    notice(`Key ${key.name} is deleted.`);
    context.again();
  } catch (error) {
    fill(trouble, problem(error));
  }
}

function newKey(context, system, update) {
  const shown = element("div", { role: "status" });
  const made = form([
    field("Name", input("name", { required: true, maxlength: "200" }), "Who or what will use it."),
    system ? field("Tenant", input("tenant", { required: true })) : null,
    field("Role", select("role", ROLES, "viewer")),
    element("div", { class: "actions" }, element("button", { type: "submit" }, "Make the key")),
  ], async (filled) => {
    const key = await context.api.post("/keys", { name: "", ...given(filled) });
    filled.reset();
    fill(shown, once(key));
    await update();
    shown.querySelector("input").select();
  });
  return [made, shown];
}

function once(key) {
  const text = input("key", { readonly: true, value: key.key });
  return element("div", { class: "explain" },
    paragraph(`Key “${key.name}” is made. Keep it now: it is not shown again.`),
    field("The key", text));
}
