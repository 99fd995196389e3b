// Who is signed in: a key for as long as the tab is open, and what its role lets it do.

import { Api } from "/dashboard/api.js";

const STORED = "dialerd.session";
const RANK = { viewer: 0, operator: 1, admin: 2 };

export function stored() {
  try {
    const session = JSON.parse(sessionStorage.getItem(STORED));
    return typeof session?.key === "string" && typeof session?.role === "string" ? session : null;
  } catch {
    return null;
  }
}

export function forget() {
  sessionStorage.removeItem(STORED);
}

// Checks a key and keeps it. Throws a Problem where it opens nothing.
export async function signIn(key) {
  const session = { key, role: await roleOf(new Api(key)) };
  sessionStorage.setItem(STORED, JSON.stringify(session));
  return session;
}

// The API names no key's role, so it is learnt from what is allowed: a list that only admins see, and the pause of
// a campaign that cannot exist, which is a 404 for who may pause and a 403 for who may not.
async function roleOf(api) {
  if (!await allowed(api, "GET", "/campaigns?per_page=1")) return "system";
  if (await allowed(api, "GET", "/keys?limit=1")) return "admin";
  return await allowed(api, "POST", "/campaigns/-/pause") ? "operator" : "viewer";
}

async function allowed(api, method, path) {
  try {
    await api.send(method, path);
    return true;
  } catch (error) {
    if (error.status === 403 && error.code === "forbidden") return false;
    if (error.status === 404 || error.code === "standby") return true; // a standby refuses it to who may do it
    throw error;
  }
}

// A system key stands beside the tenants' roles and includes none of them.
export function may(role, needed) {
  if (role === "system" || needed === "system") return role === needed;
  return RANK[role] >= RANK[needed];
}
