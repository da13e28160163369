// Texts in the user's language, from locales/<language>/main.json; English where one is missing.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { filled } from "./wording.js";

const texts = {};

export async function loadTexts() {
  const found = await (await api.fetchApi("/i18n")).json();
  const language = app.extensionManager.setting.get("Comfy.Locale");
  Object.assign(texts, found.en?.videoldm, found[language]?.videoldm);
}

/** The text `key` with its [names] replaced by values; the key itself if there is no such text. */
export function say(key, values = {}) {
  return filled(texts[key] ?? key, values);
}
