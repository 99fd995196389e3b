// Why calls are, or are not, going out now, in the planner's words, with the next moment counted down.

import { element, every, fill, paragraph, refill, table } from "/dashboard/dom.js";
import { count, duration, moment, until, words } from "/dashboard/format.js";

const AGAIN_MS = 3000; // a limit of calls per second lets go at every moment: no need to ask each time

// Shows an explanation in an element of its own; `fetched` gets one anew, also when its moment has come.
export function explanation(signal, fetched) {
  const place = element("div", { class: "explain" });
  const countdown = element("span", { class: "countdown" });
  let told = null;
  const waits = () => told !== null && !told.dialing && told.next_moment !== null;
  let asked = 0;
  const update = async () => {
    asked = Date.now();
    told = await fetched();
    refill(place, sentence(told, countdown), rules(told));
    tick();
  };
  const tick = () => {
    if (waits()) fill(countdown, ` in ${duration(until(told.next_moment))}`);
  };
  every(1, async () => {
    tick();
    if (waits() && until(told.next_moment) <= 0 && Date.now() - asked > AGAIN_MS) await update().catch(() => {});
  }, signal);
  return { place, update };
}

function sentence(told, countdown) {
  const counts = told.counts;
  return [
    element("p", { class: told.dialing ? "dialing" : "silent" },
      element("strong", {}, told.dialing ? "Dialing: " : told.summary.startsWith("standby: ") ? "Not known here: " : "Nothing is dialled: "), told.summary),
    told.next_moment && !told.dialing ? paragraph("This may change", countdown, `, at ${moment(told.next_moment)}.`) : null,
    counts ? paragraph(`${count(counts.due, "contact is", "contacts are")} due, ${count(counts.waiting, "waits", "wait")} for later, ${counts.in_flight} in flight.`) : null,
  ];
}

function rules(told) {
  return element("details", { "data-key": "rules" }, element("summary", { "data-key": "rules-summary" }, "Every rule, in the order in which the planner asks"),
    table("Rules", ["Rule", "Of", "Lets calls through", "Why", "Until"], told.rules.map((each) =>
      [words(each.rule), each.level, each.holds ? "yes" : "no", each.detail, moment(each.until)])));
}
