// Who is there, and what they may do: what would be refused isn't offered.

import { get } from "./api.js";

const ROLES = ["viewer", "operator", "admin"];
const AGAIN_MS = 3_000;

/** `{ name, role, way }`, or `null` when that isn't known. */
export let who = null;

/** Whether whoever is there may do what needs this role. */
export const may = (role) => who !== null && ROLES.indexOf(who.role) >= ROLES.indexOf(role);

/** Changes need somebody's name: where nobody logs in, it is asked for. */
export const nameless = () => who === null || who.way === "open" || who.way === "local";

/** Fulfilled when it is known. */
export const ready = find();

async function find() {
  for (;;) {
    try {
      ({ who } = await get("me"));
      return who;
    } catch {
      await new Promise((done) => { setTimeout(done, AGAIN_MS); });
    }
  }
}
