"""The lineage of versions: what was made from what, from left to right."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.plots import svg

_BOX = (150.0, 44.0)
_GAP = (110.0, 18.0)
_EDGE = 10.0
_MOST_NODES = 200
# A link leads to a page, never to a script.
_SAFE_LINK = re.compile(r"(https?://|/|#|\?|\./)[^\x00-\x20]*")
Node = Mapping[str, Any]
Edge = Mapping[str, Any]
_Place = tuple[float, float]


def lineage(graph: Mapping[str, Any], *, title: str = "Lineage") -> str:
    """Draw `{"nodes": [{"id", "label", "detail"?, "href"?, "chosen"?}], "edges": [{"source", "target", "role"}]}`.

    An edge leads from what was there to what was made from it.
    """
    nodes: Sequence[Node] = list(graph.get("nodes", ()))[:_MOST_NODES]
    known = {str(node["id"]) for node in nodes}
    edges = [edge for edge in graph.get("edges", ()) if {str(edge["source"]), str(edge["target"])} <= known]
    columns = _order(_columns([str(node["id"]) for node in nodes], edges), edges)
    places = _places(columns)
    width = 2 * _EDGE + len(columns) * (_BOX[0] + _GAP[0]) - _GAP[0] if columns else 180.0
    height = 2 * _EDGE + max((len(column) for column in columns), default=1) * (_BOX[1] + _GAP[1]) - _GAP[1]
    body = [_edge(edge, places) for edge in edges]
    body += [_node(node, places[str(node["id"])]) for node in nodes]
    return svg.figure(title, _tell(nodes, edges), *body, width=width, height=height)


def lineage_graph(document: Mapping[str, Any], *, details: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the graph of an answer of `/v1/models/{name}/versions/{version}/lineage`; links lead to its URLs."""
    own = f"{document['name']}/{document['version']}"
    nodes: dict[str, dict[str, Any]] = {own: {"id": own, "label": own, "chosen": True}}
    edges: list[dict[str, Any]] = []
    for key, is_source in (("made_from", True), ("used_by", False)):
        for link in document.get(key, ()):
            other = f"{link['name']}/{link['version']}"
            nodes.setdefault(other, {"id": other, "label": other, "href": link.get("url")})
            ends = (other, own) if is_source else (own, other)
            edges.append({"source": ends[0], "target": ends[1], "role": link["role"], "weight": link.get("weight")})
    for name, detail in (details or {}).items():
        if name in nodes:
            nodes[name]["detail"] = detail
    return {"nodes": list(nodes.values()), "edges": edges}


def _columns(ids: Sequence[str], edges: Sequence[Edge]) -> list[list[str]]:
    """Return the ids by the longest way that leads to them."""
    depth = dict.fromkeys(ids, 0)
    # As many passes as there are nodes settle every graph without a cycle, and end in one that has some.
    for _ in ids:
        moved = False
        for edge in edges:
            source, target = str(edge["source"]), str(edge["target"])
            if source != target and depth[target] <= depth[source] < len(ids) - 1:
                depth[target], moved = depth[source] + 1, True
        if not moved:
            break
    levels = sorted(set(depth.values()))
    return [[name for name in dict.fromkeys(ids) if depth[name] == level] for level in levels]


def _order(columns: list[list[str]], edges: Sequence[Edge]) -> list[list[str]]:
    """Put every node near the mean place of those before it (Sugiyama et al. 1981), so that few edges cross."""
    sources: dict[str, list[str]] = {}
    for edge in edges:
        sources.setdefault(str(edge["target"]), []).append(str(edge["source"]))
    place: dict[str, float] = {}
    ordered: list[list[str]] = []
    for column in columns:
        means = {name: _mean([place[one] for one in sources.get(name, ()) if one in place]) for name in column}
        ordered.append(sorted(column, key=lambda name: means[name]))
        place.update({name: index / len(column) for index, name in enumerate(ordered[-1])})
    return ordered


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _places(columns: Sequence[Sequence[str]]) -> dict[str, _Place]:
    tallest = max((len(column) for column in columns), default=0)
    step = _BOX[1] + _GAP[1]
    return {
        name: (_EDGE + place * (_BOX[0] + _GAP[0]), _EDGE + (index + (tallest - len(column)) / 2) * step)
        for place, column in enumerate(columns)
        for index, name in enumerate(column)
    }


def _edge(edge: Edge, places: Mapping[str, _Place]) -> str:
    start, end = places[str(edge["source"])], places[str(edge["target"])]
    x1, y1, x2, y2 = start[0] + _BOX[0], start[1] + _BOX[1] / 2, end[0], end[1] + _BOX[1] / 2
    bend = max((x2 - x1) / 2, 20.0)
    curve = "M{},{} C{},{} {},{} {},{}".format(*map(svg.coordinate, (x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2)))
    role, weight = str(edge.get("role", "")), edge.get("weight")
    words = f"{role} {weight:.2f}" if isinstance(weight, float) else role
    tip = [(x2 - 7, y2 - 4), (x2, y2), (x2 - 7, y2 + 4)]
    shown = svg.shorten(words, _GAP[0] - 12, 10.0)
    # Nearer to the source of each edge, where those to one target are still apart.
    label = svg.label(shown, x1 + 6, y1 + (y2 - y1) * 0.12 - 4, kind="muted small")
    return svg.element("path", d=curve, class_="axis") + svg.path(tip, kind="muted", closed=True) + label


def _node(node: Node, place: _Place) -> str:
    x, y = place
    name, detail = str(node.get("label", node["id"])), str(node.get("detail", ""))
    parts = [
        svg.element(
            "rect",
            svg.hint(f"{name} {detail}".strip()),
            x=x,
            y=y,
            width=_BOX[0],
            height=_BOX[1],
            rx=6.0,
            class_="chosen" if node.get("chosen") else "box",
        ),
        svg.label(svg.shorten(name, _BOX[0] - 16), x + 8, y + (19 if detail else 27)),
        svg.label(svg.shorten(detail, _BOX[0] - 16, 10.0), x + 8, y + 34, kind="muted small") if detail else "",
    ]
    link = str(node.get("href") or "")
    return svg.element("a", *parts, href=link) if _SAFE_LINK.fullmatch(link) else "".join(parts)


def _tell(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    labels = {str(node["id"]): str(node.get("label", node["id"])) for node in nodes}
    steps = [
        f"{labels[str(edge['target'])]} has {labels[str(edge['source'])]} as its {edge.get('role', 'source')}"
        for edge in edges[:20]
    ]
    return f"{len(nodes)} versions. {'; '.join(steps)}." if steps else f"{len(nodes)} versions."
