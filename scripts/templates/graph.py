"""A workflow as the editor saves it, from nodes whose inputs are given by name.

Example::

    graph = Graph("Draw", known=client.get("/object_info"))
    checkpoint = graph.node("CheckpointLoaderSimple", (0, 0), (300, 100), ckpt_name="model.safetensors")
    graph.node("CLIPTextEncode", (340, 0), (300, 90), clip=checkpoint["CLIP"], text="a dog")
    graph.file()
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .routing import TITLE, Box, Columns, Point

INPUT_NODE, OUTPUT_NODE = -10, -20
"""The editor's ids of what stands for a subgraph's sockets inside it."""
BYPASSED = 4
"""The editor's mode of a node that only passes on what it gets."""
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
GROWING = "COMFY_AUTOGROW_V3"
"""An input that takes any number of outputs."""
SLOT, FIELD = 20, 24
MARGIN, GROUP_TITLE = 8, 30
"""Pixels of the editor: of a socket and of a field; around the nodes of a group, and for its title."""


@dataclass(frozen=True)
class Output:
    """A node's output; through: places that its cable goes by, where it shall not be laid by `routing`."""

    node: int
    slot: int
    type: str
    through: tuple[Point, ...] = ()

    def by(self, *places: Point) -> Output:
        return replace(self, through=places)


@dataclass
class Node:
    id: int
    type: str
    place: Point
    size: Point
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    values: dict[str, Any]
    title: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    bypassed: bool = False
    grows: int = 0
    """By how much it is higher where nodes are drawn as HTML: room in its group."""

    def __getitem__(self, name: str) -> Output:
        slot = [output["name"] for output in self.outputs].index(name)
        return Output(self.id, slot, self.outputs[slot]["type"])

    @property
    def box(self) -> Box:
        (left, top), (width, height) = self.place, self.size
        return left, top, left + width, top + height

    def output_height(self, slot: int) -> int:
        return self.place[1] + SLOT * slot + 14

    def input_height(self, slot: int) -> int:
        """Sockets come first, then the fields."""
        sockets = [socket for socket in self.inputs if "widget" not in socket]
        if self.inputs[slot] in sockets:
            return self.place[1] + SLOT * sockets.index(self.inputs[slot]) + 14
        above = SLOT * max(len(sockets), len(self.outputs)) + FIELD * list(self.values).index(self.inputs[slot]["name"])
        return self.place[1] + above + 14

    def saved(self, order: int) -> dict[str, Any]:
        shown = {"title": self.title} if self.title else {}
        mode = BYPASSED if self.bypassed else 0
        return {
            "id": self.id, "type": self.type, "pos": list(self.place), "size": list(self.size), "flags": {},
            "order": order, "mode": mode, "inputs": self.inputs, "outputs": self.outputs, **shown,
            "properties": self.properties, "widgets_values": list(self.values.values()),
        }  # fmt: skip


class Graph:
    """known: the server's /object_info."""

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        self.name, self.known = name, known
        self.nodes: list[Node] = []
        self._groups: list[tuple[str, Sequence[Node], str]] = []
        self.extra: dict[str, Any] = {}
        self.inside: list[Subgraph] = []
        self._links: list[dict[str, Any]] = []
        self._reroutes: list[dict[str, Any]] = []
        self._ways: dict[int, tuple[Point, ...]] = {}
        self._lanes: dict[tuple[int, int], int] = {}

    @property
    def id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"core-personalization/{self.name}"))

    def inputs_of(self, type: str) -> dict[str, Any]:
        """As the server declares a node's inputs, by name."""
        declared = self.known[type]["input"]
        return {**declared.get("required", {}), **declared.get("optional", {})}

    def node(self, type: str, place: Point, size: Point, title: str = "", /, **given: Any) -> Node:
        """A node; given: per input its value, or the output that it is connected with.

        Raises KeyError for an input that the node has not.
        """
        declared, inputs = self.known[type]["input"], self.inputs_of(type)
        order = [name for kind in ("required", "optional") for name in self.known[type]["input_order"].get(kind, [])]
        if unknown := given.keys() - set(order):
            raise KeyError(f"{type} has no {', '.join(sorted(unknown))}")
        added = Node(len(self.nodes) + 1, type, place, size, [], [], {}, title)
        for name in order:
            kind, options = _declared(inputs[name])
            if kind == GROWING:
                for index, output in enumerate(given[name]):
                    label = f"{options['template']['prefix']}{index}"
                    kind = next(iter(options["template"]["input"]["required"].values()))[0]
                    self._socket(added, f"{name}.{label}", kind, value=output, label=label)
                continue
            value = given.get(name, options.get("default", _first(inputs[name])))
            is_widget = kind in WIDGETS and not options.get("forceInput")
            if isinstance(value, Output) or not is_widget:
                optional = name in declared.get("optional", {})
                self._socket(added, name, kind, value=given.get(name), optional=optional, widget=is_widget)
            if is_widget:
                added.values[name] = options.get("default", "") if isinstance(value, Output) else value
                added.values |= _companions(name, options)
        for name, kind in zip(self.known[type]["output_name"], self.known[type]["output"], strict=True):
            added.outputs.append({"name": name, "type": kind, "links": []})
        self.nodes.append(added)
        return added

    def note(self, place: Point, size: Point, text: str) -> None:
        self.nodes.append(Node(len(self.nodes) + 1, "MarkdownNote", place, size, [], [], {"": text}, "What to do"))

    def place(self, subgraph: Subgraph, place: Point, size: Point, title: str = "", **given: Any) -> Node:
        """A subgraph as a node; given: as in `node`, its inputs' own values by default."""
        added = Node(len(self.nodes) + 1, subgraph.id, place, size, [], [], {}, title or subgraph.name)
        for name, (kind, default) in subgraph.inputs.items():
            value = given.get(name, default)
            optional, is_field = name in subgraph.optional, default is not None
            called = {"label": label} if is_field and (label := subgraph.label(name)) else {}
            self._socket(added, name, kind, value=value, optional=optional, widget=is_field, **called)
            if is_field:
                added.values[name] = default if isinstance(value, Output) else value
        added.properties = {"proxyWidgets": [["-1", name] for name in added.values]}
        added.outputs = [{"name": name, "type": output.type, "links": []} for name, output in subgraph.outputs.items()]
        if subgraph not in self.inside:
            self.inside.append(subgraph)
        self.nodes.append(added)
        return added

    def group(self, title: str, *nodes: Node, color: str = "#3f789e") -> None:
        """A frame around nodes; one that begins at the top leaves room for the cables that pass there."""
        self._groups.append((title, nodes, color))

    def file(self) -> dict[str, Any]:
        """What the editor saves."""
        self._lay_cables()
        links = [
            [link[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")]
            for link in self._links
        ]
        parents = [{"id": link["id"], "parentId": link["parentId"]} for link in self._links if "parentId" in link]
        routes = {"reroutes": self._reroutes, "linkExtensions": parents} if self._reroutes else {}
        inside = {"definitions": {"subgraphs": [each.definition() for each in self.inside]}} if self.inside else {}
        return {
            "id": self.id, "revision": 0, "last_node_id": len(self.nodes), "last_link_id": len(self._links),
            "nodes": [node.saved(order) for order, node in enumerate(self.nodes)], "links": links,
            "groups": [self._group(index, *group) for index, group in enumerate(self._groups, start=1)], **inside,
            "config": {}, "extra": {**self.extra, **routes}, "version": 0.4,
        }  # fmt: skip

    def _socket(
        self, node: Node, name: str, kind: str, value: Any, optional: bool = False, widget: bool = False, **more: Any
    ) -> None:
        socket: dict[str, Any] = {"name": name, "type": kind, "link": None, **more}
        if widget:
            socket["widget"] = {"name": name}
        if optional:
            socket["shape"] = 7
        if isinstance(value, Output):
            socket["link"] = self.link(value, node.id, len(node.inputs))
        node.inputs.append(socket)

    def link(self, output: Output, target: int, slot: int) -> int:
        """Returns its id."""
        link = {"id": len(self._links) + 1, "origin_id": output.node, "origin_slot": output.slot,
                "target_id": target, "target_slot": slot, "type": output.type}  # fmt: skip
        self._links.append(link)
        if output.node > 0:
            self.nodes[output.node - 1].outputs[output.slot]["links"].append(link["id"])
        if output.through:
            self._ways[link["id"]] = output.through
        return link["id"]

    def _lay_cables(self) -> None:
        """Cables of one output share what they have in common."""
        columns = Columns.of([node.box for node in self.nodes if node.type != "MarkdownNote"])
        laid: dict[tuple[Any, ...], dict[str, Any]] = {}
        for link in self._links:
            source = (link["origin_id"], link["origin_slot"])
            if link["id"] not in self._ways:
                start, end = (self.nodes[link[f"{side}_id"] - 1] for side in ("origin", "target"))
                passes = columns.at(end.box) not in (columns.at(start.box), columns.at(start.box) + 1)
                self._ways[link["id"]] = columns.way(
                    (start.box, start.output_height(link["origin_slot"])),
                    (end.box, end.input_height(link["target_slot"])),
                    lane=self._lanes.setdefault(source, len(self._lanes)) if passes else link["origin_slot"],
                )
            for count, place in enumerate(self._ways[link["id"]], start=1):
                key = (source, self._ways[link["id"]][:count])
                reroute = laid.setdefault(key, {"id": len(laid) + 1, "pos": list(place), "linkIds": []})
                reroute["linkIds"].append(link["id"])
                if "parentId" in link:
                    reroute["parentId"] = link["parentId"]
                link["parentId"] = reroute["id"]
        self._reroutes = list(laid.values())

    def _group(self, number: int, title: str, nodes: Sequence[Node], color: str) -> dict[str, Any]:
        boxes = [node.box for node in nodes]
        left, top = (min(box[axis] for box in boxes) - MARGIN for axis in (0, 1))
        right = max(box[2] for box in boxes) + MARGIN
        bottom = max(node.box[3] + node.grows for node in nodes) + MARGIN
        passing = -min([reroute["pos"][1] for reroute in self._reroutes], default=-TITLE) - TITLE
        top -= TITLE + GROUP_TITLE + (max(passing, 0) if top == -MARGIN else 0)
        bounds = [left, top, right - left, bottom - top]
        return {"id": number, "title": title, "bounding": bounds, "color": color, "flags": {}}


class Subgraph(Graph):
    """A graph that is a node of others.

    inputs: per name its type, and its value where it has a field. optional: those that may stay empty. labels: what the
    editor calls an input, where that is not what the node inside calls it.
    """

    def __init__(
        self,
        name: str,
        known: Mapping[str, Any],
        inputs: Mapping[str, tuple[str, Any]],
        description: str,
        optional: Sequence[str] = (),
        labels: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(name, known)
        self.inputs, self.outputs, self.description = inputs, {}, description
        self.optional, self.labels = optional, labels

    def __getitem__(self, name: str) -> Output:
        slot = list(self.inputs).index(name)
        return Output(INPUT_NODE, slot, self.inputs[name][0])

    def label(self, name: str) -> str:
        """What the first input that it goes to is called; empty where that has no name but its id."""
        if name in self.labels:
            return self.labels[name]
        slot = list(self.inputs).index(name)
        link = next(link for link in self._links if (link["origin_id"], link["origin_slot"]) == (INPUT_NODE, slot))
        target = self.nodes[link["target_id"] - 1]
        _, options = _declared(self.inputs_of(target.type)[target.inputs[link["target_slot"]]["name"]])
        return options.get("display_name", "")

    def definition(self) -> dict[str, Any]:
        for slot, output in enumerate(self.outputs.values()):
            self.link(output, OUTPUT_NODE, slot)
        right = max(node.place[0] + node.size[0] for node in self.nodes) + 80
        inputs = [self._boundary(INPUT_NODE, "origin", slot, name, kind, -140) for slot, (name, (kind, _)) in
                  enumerate(self.inputs.items())]  # fmt: skip
        outputs = [self._boundary(OUTPUT_NODE, "target", slot, name, output.type, right) for slot, (name, output) in
                   enumerate(self.outputs.items())]  # fmt: skip
        return {
            "id": self.id, "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": len(self.nodes), "lastLinkId": len(self._links),
                      "lastRerouteId": 0},
            "revision": 0, "config": {}, "name": self.name,
            "inputNode": {"id": INPUT_NODE, "bounding": [-200, 0, 130, 40 + 20 * len(inputs)]},
            "outputNode": {"id": OUTPUT_NODE, "bounding": [right, 0, 130, 40 + 20 * len(outputs)]},
            "inputs": inputs, "outputs": outputs, "widgets": [],
            "nodes": [node.saved(order) for order, node in enumerate(self.nodes)], "groups": [], "links": self._links,
            "extra": {}, "category": "CoRe Personalization", "description": self.description,
        }  # fmt: skip

    def _boundary(self, node: int, end: str, slot: int, name: str, kind: str, left: int) -> dict[str, Any]:
        links = [link["id"] for link in self._links if (link[f"{end}_id"], link[f"{end}_slot"]) == (node, slot)]
        identity = str(uuid.uuid5(uuid.UUID(self.id), f"{end} {name}"))
        return {"id": identity, "name": name, "type": kind, "linkIds": links, "pos": [left, 20 + 20 * slot]}


def _declared(spec: Sequence[Any]) -> tuple[str, Mapping[str, Any]]:
    """Type and options of an input; a list of choices is a COMBO."""
    return "COMBO" if isinstance(spec[0], list) else spec[0], spec[1] if len(spec) > 1 else {}


def _first(spec: Sequence[Any]) -> Any:
    choices = spec[0] if isinstance(spec[0], list) else _declared(spec)[1].get("options", [""])
    return choices[0] if choices else ""


def _companions(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the editor saves after an input's own."""
    if options.get("control_after_generate"):
        return {f"{name} afterwards": "fixed"}
    return {f"{name} upload": "image"} if options.get("image_upload") else {}
