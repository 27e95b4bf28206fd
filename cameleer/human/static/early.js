// Sets, before anything is drawn, what this browser was told: so nothing jumps afterwards.
"use strict";
{
  const root = document.documentElement;
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  if (kept("cameleer-keys") !== "off") root.classList.add("with-keys");
  if (kept("cameleer-plain") === "on") root.classList.add("as-plain");
  root.classList.add("with-script");
}
