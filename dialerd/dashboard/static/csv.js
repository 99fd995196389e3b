// The head of a CSV file: its columns and first rows, and a new header before rows that stay as they are. The file is
// never read whole, and read as the daemon reads it (dialerd.intake).

const HEAD_BYTES = 256 * 1024;
const DELIMITERS = [",", ";", "\t"];
const ROWS = 3;

export const FIELDS = ["phone_number", "first_name", "last_name", "email", "company", "timezone", "priority", "external_id"];
const OWN_NAMES = new Map([...FIELDS.map((name) => [name.replaceAll("_", ""), name]), ["phone", "phone_number"]]);
const SPELLINGS = {
  phone_number: "phoneno telephone telephonenumber telephoneno tel mobile mobilephone mobilenumber cell cellphone msisdn",
  first_name: "firstname forename givenname",
  last_name: "lastname surname familyname",
  email: "emailaddress mail",
  company: "companyname organisation organization",
  timezone: "tz timezonename",
  external_id: "externalref externalreference",
};
const OTHER_NAMES = new Map(Object.entries(SPELLINGS).flatMap(([field, names]) => names.split(" ").map((name) => [name, field])));

const plain = (name) => name.replace(/[\s_.-]+/g, "").toLowerCase();
const own = (name) => OWN_NAMES.get(plain(name)) ?? null;

// The field that a column's name spells; null: it is an attribute.
export const fieldOf = (name) => own(name) ?? OTHER_NAMES.get(plain(name)) ?? null;

// Which field each column becomes by its name alone. The API's own names win; what they leave goes to other spellings.
export function assigned(names) {
  const taken = new Set(names.map(own).filter(Boolean));
  return names.map((name) => {
    if (own(name)) return own(name);
    const field = fieldOf(name);
    if (field === null || taken.has(field)) return null;
    taken.add(field);
    return field;
  });
}

// Reads a file's head. Throws an Error, in words, where it is no table.
export async function head(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  const { encoding, bom } = encodingOf(bytes);
  const text = decoded(bytes.subarray(bom), encoding, file.size > HEAD_BYTES);
  const { delimiter, records: [first, ...rows] } = best(text);
  if (first === undefined) throw new Error("The file is empty.");
  if (first.end === null && file.size > HEAD_BYTES) throw new Error("Its first row has no end; is a quote never closed?");
  const length = bom + encodedAs(text.slice(0, first.end ?? text.length), encoding).length;
  return { file, names: first.cells, rows: rows.slice(0, ROWS).map((each) => each.cells), delimiter, encoding, bom, before: text.slice(0, first.begin), length };
}

// The file with other column names; the rows stay as they are, byte by byte.
export function renamed(head, names) {
  const quoted = names.map((name) => (/["\r\n]/.test(name) || name.includes(head.delimiter) ? `"${name.replaceAll('"', '""')}"` : name));
  const header = `${head.before}${quoted.join(head.delimiter)}\n`;
  const { file, bom, encoding, length } = head;
  return new Blob([file.slice(0, bom), encodedAs(header, encoding), file.slice(length)], { type: "text/csv" });
}

// The names that make the API take each column as chosen (null: an attribute).
export function namesFor(names, chosen) {
  const taken = new Set(chosen.filter(Boolean));
  return names.map((name, index) => {
    if (chosen[index]) return chosen[index];
    const meant = fieldOf(name);
    return meant !== null && (own(name) || !taken.has(meant)) ? `${name.trim()} (as given)` : name;
  });
}

function encodingOf(bytes) {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) return { encoding: "utf-8", bom: 3 };
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return { encoding: "utf-16le", bom: 2 };
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return { encoding: "utf-16be", bom: 2 };
  return { encoding: "utf-8", bom: 0 };
}

function decoded(bytes, encoding, more) {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes, { stream: more });
  } catch {
    throw new Error(`The file is not ${encoding.toUpperCase()} text.`);
  }
}

function encodedAs(text, encoding) {
  if (encoding === "utf-8") return new TextEncoder().encode(text);
  const view = new DataView(new ArrayBuffer(text.length * 2));
  for (let index = 0; index < text.length; index += 1) view.setUint16(index * 2, text.charCodeAt(index), encoding === "utf-16le");
  return new Uint8Array(view.buffer);
}

// The delimiter under which the header has a telephone number, or else the most columns.
function best(text) {
  let found = null;
  for (const delimiter of DELIMITERS) {
    const records = parse(text, delimiter, ROWS + 1);
    const names = records[0]?.cells ?? [];
    const merit = [names.some((name) => fieldOf(name) === "phone_number") ? 1 : 0, names.length];
    if (found === null || merit[0] > found.merit[0] || (merit[0] === found.merit[0] && merit[1] > found.merit[1])) found = { delimiter, records, merit };
  }
  return found;
}

// The first records (RFC 4180), without blank ones: their cells, and where each begins and ends; an end of null: the
// text ended first.
export function parse(text, delimiter, most) {
  const records = [];
  let at = 0;
  while (at < text.length && records.length < most) {
    const record = { begin: at, cells: [], end: null };
    at = readRecord(text, at, delimiter, record);
    if (record.cells.some((cell) => cell.trim() !== "")) records.push(record);
  }
  return records;
}

function readRecord(text, begin, delimiter, record) {
  let at = begin;
  let cell = "";
  let quoted = false;
  for (; at < text.length; at += 1) {
    const char = text[at];
    if (quoted && char === '"' && text[at + 1] === '"') cell += text[at += 1];
    else if (char === '"' && (quoted || cell === "")) quoted = !quoted;
    else if (!quoted && char === delimiter) cell = pushed(record, cell);
    else if (!quoted && (char === "\n" || char === "\r")) {
      record.cells.push(cell);
      record.end = char === "\r" && text[at + 1] === "\n" ? at + 2 : at + 1;
      return record.end;
    } else cell += char;
  }
  record.cells.push(cell);
  return at;
}

function pushed(record, cell) {
  record.cells.push(cell);
  return "";
}
