// Concept Images: what a folder holds as soon as it is chosen, and a button that uploads photos into one.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { addButton, after, idOf, inLanguage, inputsOf, isShown, showPicture, showText } from "./nodes.js";

const UPLOAD = { en: "Upload photos …", zh: "上传照片…" };
const ASKED = {
  en: { title: "Upload photos", message: "Name of their folder in ComfyUI's input folder" },
  zh: { title: "上传照片", message: "它们在 ComfyUI 的 input 文件夹中的文件夹名称" },
};
const NO_FOLDERS = {
  en: "✖ Drop the photos themselves, not their folder.",
  zh: "✖ 请拖入照片本身，而不是它们所在的文件夹。",
};
const IN_FOLDER = { en: "Photos are in the folder", zh: "照片已在文件夹中：" };
const ACCEPTED = "image/*,.heic,.heif,.avif,.txt,.caption";
const MOMENT = 300; // In milliseconds: typing is over.

app.registerExtension({
  name: "CorePersonalization.ConceptImages",

  nodeCreated(node) {
    if (node.comfyClass !== "CoReConceptImages") return;
    addButton(node, "upload", UPLOAD, () => choose(node));
    for (const widget of node.widgets) {
      if (widget.name in inputsOf(node)) after(widget, "callback", () => lookSoon(node));
    }
    after(node, "onConfigure", () => lookSoon(node));
    node.onDragOver = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    node.onDragDrop = (event) => {
      const files = [...event.dataTransfer.files];
      const folders = [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry()?.isDirectory);
      if (folders) say(node, inLanguage(NO_FOLDERS));
      else if (files.length) upload(node, files);
      return files.length > 0;
    };
    lookSoon(node);
  },
});

const waiting = new WeakMap();

function lookSoon(node) {
  clearTimeout(waiting.get(node));
  waiting.set(node, setTimeout(() => look(node), MOMENT));
}

async function look(node) {
  const query = queryOf(node);
  if (!widgetOf(node, "folder").value || !isShown(node)) return;
  const answer = await api.fetchApi(`/core_personalization/photos?${query}`);
  if (!answer.ok || queryOf(node) !== query || !isShown(node)) return;
  const { text, picture, folders, error } = await answer.json();
  showText(node.id, error ?? text);
  showPicture(node, picture);
  if (folders) widgetOf(node, "folder").options.values = folders;
}

function queryOf(node) {
  const own = node.widgets.filter(({ name }) => name in inputsOf(node));
  return String(new URLSearchParams(own.map(({ name, value }) => [name, value])));
}

function widgetOf(node, name) {
  return node.widgets.find((widget) => widget.name === name);
}

function choose(node) {
  const input = Object.assign(document.createElement("input"), { type: "file", multiple: true, accept: ACCEPTED });
  input.onchange = () => upload(node, [...input.files]);
  input.click();
}

// Nothing where its workflow is not open.
function say(node, text) {
  const id = idOf(node);
  if (id) showText(id, text);
}

async function upload(node, files) {
  const { value: chosen, options } = widgetOf(node, "folder"), folders = options.values ?? [];
  let free = chosen && !folders.includes(chosen) ? chosen : "my-photos"; // Such as a template's, which is not there.
  for (let number = 2; folders.includes(free); number++) free = `my-photos-${number}`;
  const name = (await app.extensionManager.dialog.prompt({ ...inLanguage(ASKED), defaultValue: free }))?.trim();
  if (!name) return;
  for (const [number, file] of files.entries()) {
    say(node, `${number} / ${files.length} ↑`);
    const body = new FormData();
    body.append("image", file);
    body.append("subfolder", name);
    try {
      const answer = await api.fetchApi("/upload/image", { method: "POST", body });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    } catch (error) { // Also of a connection that is lost.
      say(node, `✖ ${file.name}: ${error.message}`);
      return;
    }
  }
  say(node, `${files.length} / ${files.length} ✓`);
  if (!idOf(node)) app.extensionManager.toast.add({ severity: "info", summary: inLanguage(IN_FOLDER), detail: name });
  const folder = widgetOf(node, "folder");
  folder.options.values = [...new Set([...folders, name])];
  folder.value = name;
  folder.callback?.(name);
}
