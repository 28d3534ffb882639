// Titles, groups, fields and notes of our templates in the editor's language: the file of a template is in English and
// brings translations in its "extra" (scripts/templates/chinese.py). What its reader has changed stays as it is.
import { app } from "../../scripts/app.js";
import { language } from "./nodes.js";

app.registerExtension({
  name: "CorePersonalization.TemplateTexts",

  // The editor's own copy of what it is about to open.
  beforeConfigureGraph(graph) {
    const texts = graph?.extra?.core_personalization?.texts?.[language()];
    if (!texts) return;
    const translated = (text) => (Object.hasOwn(texts, text) ? texts[text] : text);
    for (const { groups, nodes } of [graph, ...(graph.definitions?.subgraphs ?? [])]) {
      for (const named of [...(groups ?? []), ...(nodes ?? [])]) {
        if (named.title) named.title = translated(named.title);
      }
      for (const field of (nodes ?? []).flatMap(({ inputs }) => inputs ?? [])) {
        if (field.label) field.label = translated(field.label);
      }
      for (const note of nodes ?? []) {
        if (note.type === "MarkdownNote" && Array.isArray(note.widgets_values)) {
          note.widgets_values = note.widgets_values.map(translated);
        }
      }
    }
  },
});
