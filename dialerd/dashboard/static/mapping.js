// Chooses a file of contacts, and shows what each of its columns will be before it is sent.

import { element, fill, table } from "/dashboard/dom.js";
import { FIELDS, assigned, head, namesFor, renamed } from "/dashboard/csv.js";
import { field, input, select } from "/dashboard/forms.js";
import { words } from "/dashboard/format.js";

export class ContactsFile {
  constructor() {
    this.input = input("contacts", { type: "file", accept: ".csv,.txt,.tsv,text/csv", onchange: () => this.read() });
    this.preview = element("div", { "aria-live": "polite" });
    this.place = element("div", {},
      field("Contacts", this.input, "A CSV file with a column of telephone numbers; comma, semicolon or tab."), this.preview);
    this.head = null;
    this.reading = Promise.resolve();
  }

  read() {
    this.head = null;
    fill(this.preview);
    const [file] = this.input.files;
    if (file) this.reading = this.open(file);
  }

  async open(file) {
    const chosen = () => this.input.files[0] === file; // another file may have been chosen while this one was read
    try {
      const read = await head(file);
      if (!chosen()) return;
      this.head = read;
      this.draw();
    } catch (error) {
      if (chosen()) fill(this.preview, element("p", { class: "problem" }, error.message));
    }
  }

  draw() {
    const { names, rows } = this.head;
    this.initial = assigned(names);
    this.selects = names.map((name, index) => select(`column-${index}`,
      [["", "an attribute"], ...FIELDS.map((each) => [each, words(each)])], this.initial[index] ?? "",
      { "aria-label": `Column ${name} becomes`, form: "none" }));
    fill(this.preview, table("Columns", ["Column", "Becomes", "First values"], names.map((name, index) =>
      [name, this.selects[index], rows.map((row) => row[index] ?? "").filter(Boolean).join(" · ")])));
  }

  // What is to be sent; null: no file is chosen. Throws an Error, in words, where the columns do not fit.
  async body() {
    await this.reading;
    const [file] = this.input.files;
    if (!file) return null;
    if (this.head === null) return file; // the daemon says what is wrong with it
    const chosen = this.selects.map((each) => each.value || null);
    if (!chosen.includes("phone_number")) throw new Error("Choose the column of the telephone numbers: one must become the phone number.");
    const twice = chosen.find((each, index) => each && chosen.indexOf(each) !== index);
    if (twice) throw new Error(`Two columns become ${words(twice)}; choose one.`);
    if (chosen.every((each, index) => each === this.initial[index])) return file;
    return renamed(this.head, namesFor(this.head.names, chosen));
  }
}
