"""What a user does in ComfyUI's editor, as methods."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from driver import mini_world
from driver.quick_start import TEMPLATES

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

Workflow = Mapping[str, Any]

_WIDGET_PLACE = """([id, name]) => {
    const node = app.graph.getNodeById(id), widget = node.widgets.find((widget) => widget.name === name);
    const {scale, offset} = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
    return [box.left + (node.pos[0] + node.size[0] / 2 + offset[0]) * scale,
            box.top + (node.pos[1] + widget.y + 10 + offset[1]) * scale];
}"""
_TEXT = "(id) => app.graph.getNodeById(id).widgets.find((w) => w.name === '$$node-text-preview')?.value ?? ''"
_PICTURES = "(id) => (app.graph.getNodeById(id).imgs ?? []).map((image) => image.src)"
PATIENCE = 180_000  # In milliseconds; a training on a busy machine.
_IN_MINI_WORLD = """([types, titles]) => {
    const set = (graph) => graph.nodes.forEach((node) => {
        for (const [name, value] of Object.entries({...types[node.type], ...titles[node.title]})) {
            const linked = node.inputs.some((input) => input.widget?.name === name && input.link != null);
            const widget = node.widgets?.find((widget) => widget.name === name);
            if (widget && !linked) widget.value = value;
        }
        if (node.subgraph) set(node.subgraph);
    });
    set(app.rootGraph ?? app.graph);
}"""
# Everything but the pictures' folder and the sampling of a quick start.
_TRAINING = """([train, prompt]) => {
    const add = (type, id, x, y) => {
        const node = LiteGraph.createNode(type); node.id = id; node.pos = [x, y]; app.graph.add(node); return node;
    };
    const join = (from, output, to, input) => from.connect(output, to, to.findInputSlot(input));
    const models = add('CheckpointLoaderSimple', 10, 20, 60), pictures = add('EmptyImage', 11, 20, 300);
    const training = add('CoReTrainEmbedding', train, 440, 60), written = add('CoReConceptPrompt', prompt, 940, 60);
    const shown = add('PreviewAny', 12, 1400, 60);
    for (const [output, input] of ['model', 'clip', 'vae'].entries()) join(models, output, training, input);
    join(pictures, 0, training, 'images'), join(training, 0, written, 'concept'), join(written, 0, shown, 'source');
    const set = (node, name, value) => node.widgets.find((widget) => widget.name === name).value = value;
    set(training, 'concept_name', 'refused'), set(training, 'resolution', 32), set(training, 'steps', 1);
    app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 60]; app.canvas.draw(true, true);
}"""
_HELP_PICTURES_SHOWN = """() => {
    const pictures = [...document.querySelectorAll('.node-help-content img')];
    return pictures.every((picture) => picture.naturalWidth > 200);
}"""
_VALUES = "(id) => Object.fromEntries(app.graph.getNodeById(id).widgets.map((widget) => [widget.name, widget.value]))"


@dataclass
class Editor:
    """errors: what no code of the page caught, and what ours wrote to the console."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, page: Page, address: str) -> Editor:
        """Not for the first time: a first start shows the template browser."""
        editor = cls(page, address)
        editor.set("Comfy.TutorialCompleted", True)
        editor.start_again()
        return editor

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self.note_ours)

    def note_ours(self, message: ConsoleMessage) -> None:
        if "ersonalization" in message.text:
            self.errors.append(message.text)

    def go(self) -> None:
        self.page.goto(f"http://{self.address}")
        self.page.wait_for_function("() => window.app?.vueAppReady")

    def start_again(self) -> None:
        """With the workflow that was open last."""
        self.go()
        self.page.wait_for_function("() => app.graph?.nodes.length > 0")

    def set(self, setting: str, value: Any) -> None:
        self.page.request.post(f"http://{self.address}/api/settings/{setting}", data=json.dumps(value))

    def load(self, workflow: Workflow, name: str = "test") -> None:
        self.page.evaluate("([graph, name]) => app.loadGraphData(graph, true, true, name)", [workflow, name])
        self.page.wait_for_timeout(300)  # What is missing is shown a moment later.

    def load_template(self, name: str) -> None:
        """As the browser of templates opens it."""
        graph = json.loads((TEMPLATES / f"{name}.json").read_text(encoding="utf-8"))
        script = "([graph, name]) => app.loadGraphData(graph, true, true, name, {openSource: 'template'})"
        self.page.evaluate(script, [graph, name])
        self.page.wait_for_timeout(1000)  # What is missing is shown a moment later.

    def load_training(self, training: int, prompt: int) -> None:
        """A training, and a prompt with its concept, of a checkpoint that is there; the numbers become their ids."""
        self.load({"nodes": [], "links": [], "version": 0.4})
        self.page.evaluate(_TRAINING, [training, prompt])

    def show_help(self, node_id: str) -> Locator:
        """The help page of a node that stands alone, with all its pictures loaded."""
        self.load({"nodes": [{"id": 1, "type": node_id, "pos": [200, 100]}], "links": [], "version": 0.4})
        self.page.evaluate("() => app.canvas.selectNode(app.graph.getNodeById(1))")
        self.page.get_by_test_id("info-button").click()
        shown = self.page.locator(".node-help-content").first
        shown.get_by_role("heading").first.wait_for()
        self.page.wait_for_function(_HELP_PICTURES_SHOWN)
        return shown

    def use_mini_world(self, types: Collection[str] = tuple(mini_world.INPUTS)) -> None:
        """The graph that is open, for the embedded checkpoint; types: the nodes that are changed."""
        inputs = {kind: values for kind, values in mini_world.INPUTS.items() if kind in types}
        self.page.evaluate(_IN_MINI_WORLD, [inputs, mini_world.NODES])

    def evaluate(self, expression: str, argument: Any = None) -> Any:
        return self.page.evaluate(expression, argument)

    def values(self, node_id: int) -> dict[str, Any]:
        return self.page.evaluate(_VALUES, node_id)

    def set_value(self, node_id: int, name: str, value: Any) -> None:
        script = "([id, name, value]) => app.graph.getNodeById(id).widgets.find((w) => w.name === name).value = value"
        self.page.evaluate(script, [node_id, name, value])

    def choose(self, node_id: int, name: str, option: str) -> None:
        """An option of a list, by mouse, on the node as the canvas draws it."""
        self.page.mouse.click(*self.page.evaluate(_WIDGET_PLACE, [node_id, name]))
        self.page.get_by_role("menuitem", name=option, exact=True).click()

    def press(self, keys: str) -> None:
        self.page.keyboard.press(keys)
        self.page.wait_for_timeout(500)  # The editor restores a graph after the key event.

    @property
    def run_button(self) -> Locator:
        """Of the graph, or of the form in app mode."""
        buttons = self.page.locator("[data-testid=queue-button], [data-testid=linear-run-button] button")
        return buttons.filter(visible=True).last  # The form has others to set how often it runs.

    def run(self) -> dict[str, Any]:
        """Clicks Run. Returns the server's answer: prompt_id, or error and node_errors."""
        with self.page.expect_response(lambda answer: answer.url.endswith("/api/prompt")) as waiting:
            self.run_button.click()
        return waiting.value.json()

    def text(self, node_id: int) -> str:
        """The text on a node."""
        return self.page.evaluate(_TEXT, node_id)

    def pictures(self, node_id: int) -> list[str]:
        """The addresses of the pictures on a node."""
        return self.page.evaluate(_PICTURES, node_id)

    def wait_for_text(self, node_id: int, pattern: str, patience: int = PATIENCE) -> str:
        script = f"([id, pattern]) => new RegExp(pattern, 's').test(({_TEXT})(id))"
        self.page.wait_for_function(script, arg=[node_id, pattern], timeout=patience)
        return self.text(node_id)

    def wait_for_pictures(self, node_id: int, count: int) -> list[str]:
        """The editor shows a picture when it has loaded it."""
        script = f"([id, count]) => ({_PICTURES})(id).length === count"
        self.page.wait_for_function(script, arg=[node_id, count], timeout=PATIENCE)
        return self.pictures(node_id)

    def stop_all(self) -> None:
        """What has only just begun passes over an interruption, so it is asked again and again."""
        while any(self.page.request.get(f"http://{self.address}/api/queue").json().values()):
            for path, body in (("queue", {"clear": True}), ("interrupt", {})):
                self.page.request.post(f"http://{self.address}/api/{path}", data=body)
            self.page.wait_for_timeout(100)

    def complaints(self) -> list[str]:
        """Texts of the dialogs, overlays and messages that stand on the screen."""
        shown = self.page.locator(
            "[role=dialog]:visible, [data-testid=error-overlay]:visible, .p-toast-message:visible"
        )
        return shown.all_inner_texts()

    def complaint(self, needle: str) -> str:
        """The one that has these words; it is waited for."""
        self.page.get_by_text(needle).first.wait_for()
        (found,) = (text for text in self.complaints() if needle in text)
        return found
