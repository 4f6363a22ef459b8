// The pages' words: both languages have the same ones, with the same places for values, and no page asks for another.
//
//   node i18n.mjs '{}'

import { readFile, readdir } from "node:fs/promises";

const PAGES = new URL("../../src/http/pages/public/", import.meta.url);
const { words } = await import(new URL("i18n.js", PAGES));
const faults = [];

const keys = (language) => Object.keys(words[language]).sort();
const places = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort().join();

for (const key of new Set([...keys("en"), ...keys("zh")])) {
  const [en, zh] = [words.en[key], words.zh[key]];
  if (!en || !zh) faults.push(`${key} is missing in ${en ? "zh" : "en"}`);
  else if (places(en) !== places(zh)) faults.push(`${key} has other values in zh`);
}

const asked = new Set();
const families = [];
for (const name of await readdir(PAGES)) {
  const text = await readFile(new URL(name, PAGES), "utf8");
  if (name.endsWith(".html")) {
    for (const [, key] of text.matchAll(/data-t(?:-\w+)?="(\w+)"/g)) asked.add(key);
  } else if (name.endsWith(".js") && name !== "i18n.js") {
    for (const [, key] of text.matchAll(/["'`]([a-z]+_[a-z0-9_]+)["'`]/g)) if (key in words.en) asked.add(key);
    for (const [, key] of text.matchAll(/\bt\("(\w+)"/g)) asked.add(key);
    for (const [, key] of text.matchAll(/\bt\([^()]*?\? "(\w+)"/g)) asked.add(key);
    for (const [, key] of text.matchAll(/(?:return|notice\() ?"(\w+)"/g)) if (key in words.en) asked.add(key);
    for (const [, start] of text.matchAll(/`(\w+_)\$\{/g)) families.push(start);
  }
}
for (const key of asked) if (!(key in words.en)) faults.push(`${key} is asked for and has no words`);
for (const key of keys("en")) {
  const used = asked.has(key) || families.some((start) => key.startsWith(start)) || new RegExp(`"${key}"`).test(await allScripts());
  if (!used) faults.push(`${key} is never asked for`);
}

async function allScripts() {
  allScripts.text ??= (await Promise.all((await readdir(PAGES)).filter((name) => name.endsWith(".js") && name !== "i18n.js").map((name) => readFile(new URL(name, PAGES), "utf8")))).join("\n");
  return allScripts.text;
}

console.log(JSON.stringify({ step: "words", languages: Object.keys(words), words: keys("en").length, ...(faults.length > 0 ? { failed: faults } : {}) }));
process.exitCode = faults.length > 0 ? 1 : 0;
