// Asks for the key, once per tab.

import { element, fill, heading, paragraph } from "/dashboard/dom.js";
import { field, form, input } from "/dashboard/forms.js";
import { signIn } from "/dashboard/session.js";

export function show(place, words, onSession) {
  const key = input("key", { type: "password", required: true, spellcheck: "false" });
  fill(place, element("div", { class: "page" },
    heading("Sign in"),
    words ? element("p", { class: "problem", role: "alert" }, words) : null,
    form([
      field("Key", key, "An API key, as dialerd keys create prints it. It is kept until this tab is closed."),
      element("div", { class: "actions" }, element("button", { type: "submit" }, "Sign in")),
    ], async () => {
      const given = key.value.trim();
      if (given === "") throw new Error("Type or paste a key.");
      onSession(await signIn(given));
    }),
    paragraph("Programs use the same API: ", element("a", { href: "/docs" }, "its documentation"), " needs no key.")));
  key.focus();
}
