// Sentences in the user's language: those of locales/<language>/main.json, English for the rest.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { filled } from "./wording.js";

const texts = {};

export async function loadTexts() {
  const found = await (await api.fetchApi("/i18n")).json();
  const language = app.extensionManager.setting.get("Comfy.Locale");
  Object.assign(texts, found.en?.videoldm, found[language]?.videoldm);
}

/** The sentence `key` with its [names] filled in; the key itself where there is none. */
export function say(key, values = {}) {
  return filled(texts[key] ?? key, values);
}
