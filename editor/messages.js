// What our nodes say, in the editor's language: Python says it in English, and locales/zh/messages.json has each sentence
// with {0}, {1} … where values stand. Values stay as they are; where one is a sentence of ours, or a list of such, it is
// translated, too. What is known of none is left in English.
import { app } from "../../scripts/app.js";
import { isOurs, isSaid, language, rewriting } from "./nodes.js";

const CATALOGUE = new URL("../personalization-locales/zh/messages.json", import.meta.url);
const BLOCKED = "Execution Blocked: "; // Said by the node that has a blocked output of ours as its input.
const PLACE = /\{(\d+)\}/;
const COUNT = /^ ?\p{L}+$/u; // As in "{0} pictures": of numbers, and of inputs' names, or any text would be one.
const COUNTED = /^[\d.,…]+$|_/;
const LISTS = [["; ", "；"], [", and ", "，以及"], [", ", "、"], [" and ", "和"], [": ", "："]];
const PROSE = /\p{L}{2,} \p{L}/u, FILE = /[\\/]|\.\w{2,5}$/; // What is no list of ours, unless it names a file.

let translate = (text) => text;

app.registerExtension({
  name: "CorePersonalization.Messages",

  async setup() {
    if (language() !== "zh") return;
    rewriting(inChinese);
    // Asked anew: the server lets a browser keep this kind of file for days, also after an update of the pack.
    translate = translator(await (await fetch(CATALOGUE, { cache: "no-cache" })).json());
  },
});

export function translated(text) {
  return translate(text);
}

function inChinese(type, detail) {
  if (isSaid(type, detail)) return { ...detail, text: translate(detail.text) };
  if (type !== "execution_error") return detail;
  const message = detail.exception_message.trim(), blocked = message.startsWith(BLOCKED) ? BLOCKED : "";
  if (!blocked && !isOurs(LiteGraph.registered_node_types[detail.node_type])) return detail;
  return { ...detail, exception_message: blocked + translate(message.slice(blocked.length)) };
}

// catalogue: {template: template in the other language}, with the same places.
export function translator(catalogue) {
  // Those with more of their own words are tried first.
  const templates = Object.entries(catalogue).filter(([known]) => PLACE.test(known)).map(template);
  templates.sort((one, other) => other.letters - one.letters);
  const seen = new Map();
  const remembered = (text) => {
    if (!seen.has(text)) seen.set(text, sentence(text) ?? text);
    if (seen.size > 1000) seen.clear();
    return seen.get(text) ?? text;
  };
  return (text) => {
    const lines = text.split("\n").map(remembered).join("\n");
    return lines === text ? remembered(text) : lines;
  };

  // null: there is nothing of ours in it.
  function sentence(text) {
    if (Object.hasOwn(catalogue, text)) return catalogue[text];
    for (const { pattern, counts, labelled, order, result } of templates) {
      const values = text.match(pattern)?.slice(1);
      if (!values || (counts && !COUNTED.test(values[0]))) continue;
      const shown = new Map(values.map((value, at) => [order[at], labelled && !at ? labels(value) : inner(value)]));
      return result.map((part, at) => (at % 2 ? shown.get(part) : part)).join("");
    }
    return explained(text) ?? list(text);
  }

  function inner(value) {
    return /^(['"]).*\1$/s.test(value) ? value : (sentence(value) ?? value);
  }

  // The name of an input, with which most refusals begin, stays: the editor shows its label.
  function labels(value) {
    return /^\w+$/.test(value) ? value : inner(value);
  }

  // "photo.heic (why)"
  function explained(text) {
    const [, named, why] = text.match(/^([^()]*) \((.*)\)$/s) ?? [];
    const told = why && sentence(why);
    return told ? `${inner(named)}（${told}）` : null;
  }

  function list(text) {
    for (const [separator, other] of LISTS) {
      const parts = outsideBrackets(text, separator);
      if (parts.length < 2) continue;
      const told = parts.map(sentence);
      const foreign = parts.some((part, at) => told[at] === null && PROSE.test(part) && !FILE.test(part));
      if (!foreign && told.some(Boolean)) return told.map((part, at) => part ?? parts[at]).join(other);
    }
    return null;
  }
}

function template([known, other]) {
  const parts = known.split(PLACE);
  const words = parts.filter((_, at) => at % 2 === 0);
  return {
    pattern: new RegExp(`^${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("([^]*?)")}$`),
    letters: words.join("").length,
    counts: words[0] === "" && COUNT.test(words.join("")),
    labelled: known.startsWith("{0}: "),
    order: parts.filter((_, at) => at % 2),
    result: other.split(PLACE),
  };
}

function outsideBrackets(text, separator) {
  const parts = [""];
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    depth += "([{".includes(text[at]) - ")]}".includes(text[at]);
    if (depth === 0 && text.startsWith(separator, at)) {
      parts.push("");
      at += separator.length - 1;
    } else {
      parts[parts.length - 1] += text[at];
    }
  }
  return parts;
}
