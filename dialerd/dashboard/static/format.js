// Numbers and times in words, in the reader's own zone.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const PERCENT = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const number = (value) => (value === null || value === undefined ? "–" : NUMBER.format(value));
export const percent = (value) => (value === null || value === undefined ? "–" : PERCENT.format(value));
export const moment = (text) => (text ? MOMENT.format(new Date(text)) : "–");
export const clock = (text) => CLOCK.format(new Date(text));
export const words = (name) => (name ? name.replaceAll("_", " ") : "–");
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

// "3 h 12 min": the two largest units, which is as much as anybody reads.
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return "0 s";
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0).map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

export const until = (text) => (Date.parse(text) - Date.now()) / 1000;

// What <input type="datetime-local"> takes, in the reader's zone.
export function localInput(date) {
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return shifted.toISOString().slice(0, 16);
}
