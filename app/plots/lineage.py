"""The lineage of versions: what was made from what, from left to right."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from app.plots import svg
from app.plots.scale import counted

_BOX = (150.0, 44.0)
_GAP = (110.0, 18.0)
_EDGE = 10.0
_MOST_NODES = 200
# A link leads to a page, never to a script.
_SAFE_LINK = re.compile(r"(https?://|/|#|\?|\./)[^\x00-\x20]*")
Node = Mapping[str, Any]
Edge = Mapping[str, Any]
_Place = tuple[float, float]


class _Way(NamedTuple):
    edge: Edge
    stops: Sequence[str]


def lineage(graph: Mapping[str, Any], *, title: str = "Lineage") -> str:
    """Draw `{"nodes": [{"id", "label", "detail"?, "href"?, "chosen"?}], "edges": [{"source", "target", "role"}]}`.

    An edge leads from what was there to what was made from it.
    """
    nodes: Sequence[Node] = list(graph.get("nodes", ()))[:_MOST_NODES]
    known = {str(node["id"]) for node in nodes}
    edges = [edge for edge in graph.get("edges", ()) if {str(edge["source"]), str(edge["target"])} <= known]
    depth = _depths([str(node["id"]) for node in nodes], edges)
    # What leads back, or to itself, is no step from old to new.
    ways = [
        _Way(edge, _stops(place, edge, depth))
        for place, edge in enumerate(edges)
        if depth[str(edge["source"])] < depth[str(edge["target"])]
    ]
    columns = _order(_columns(depth, ways), ways)
    places = _places(columns)
    width = 2 * _EDGE + len(columns) * (_BOX[0] + _GAP[0]) - _GAP[0] if columns else 180.0
    height = 2 * _EDGE + max((len(column) for column in columns), default=1) * (_BOX[1] + _GAP[1]) - _GAP[1]
    body = [_draw_way(way, places) for way in ways] + [_name_way(way, places) for way in ways]
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


def _depths(ids: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return the column of every id: the longest way that leads to it."""
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
    rank = {level: place for place, level in enumerate(sorted(set(depth.values())))}
    return {name: rank[level] for name, level in depth.items()}


def _stops(place: int, edge: Edge, depth: Mapping[str, int]) -> list[str]:
    """Return the ids that an edge passes; in the columns between its ends it gets free places of its own."""
    source, target = str(edge["source"]), str(edge["target"])
    return [source, *(f"\0{place} {level}" for level in range(depth[source] + 1, depth[target])), target]


def _columns(depth: Mapping[str, int], ways: Sequence[_Way]) -> list[list[str]]:
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name, level in depth.items():
        columns[level].append(name)
    for way in ways:
        for level, stop in enumerate(way.stops[1:-1], start=depth[way.stops[0]] + 1):
            columns[level].append(stop)
    return columns


def _order(columns: Sequence[Sequence[str]], ways: Sequence[_Way]) -> list[list[str]]:
    """Put every node near the mean place of those before it (Sugiyama et al. 1981), so that few edges cross."""
    sources: dict[str, list[str]] = {}
    for way in ways:
        for before, after in pairwise(way.stops):
            sources.setdefault(after, []).append(before)
    place: dict[str, float] = {}
    ordered: list[list[str]] = []
    for column in columns:
        means = {name: _mean([place[one] for one in sources.get(name, ()) if one in place]) for name in column}
        ordered.append(sorted(column, key=means.__getitem__))
        place.update({name: (index + 0.5) / len(column) for index, name in enumerate(ordered[-1])})
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


def _draw_way(way: _Way, places: Mapping[str, _Place]) -> str:
    parts: list[str] = []
    for before, after in pairwise(way.stops):
        (x1, y1), (x2, y2) = places[before], places[after]
        x1, y1, y2 = x1 + _BOX[0], y1 + _BOX[1] / 2, y2 + _BOX[1] / 2
        bend = (x2 - x1) / 2
        parts.append("C{},{} {},{} {},{}".format(*map(svg.coordinate, (x1 + bend, y1, x2 - bend, y2, x2, y2))))
        if after != way.stops[-1]:
            parts.append(f"L{svg.coordinate(x2 + _BOX[0])},{svg.coordinate(y2)}")
    (left, top), (right, bottom) = places[way.stops[0]], places[way.stops[-1]]
    curve = f"M{svg.coordinate(left + _BOX[0])},{svg.coordinate(top + _BOX[1] / 2)} {' '.join(parts)}"
    y = bottom + _BOX[1] / 2
    tip = svg.path([(right - 7, y - 4), (right, y), (right - 7, y + 4)], kind="muted", closed=True)
    return svg.element("path", d=curve, class_="axis") + tip


def _name_way(way: _Way, places: Mapping[str, _Place]) -> str:
    """Return the role half-way to the next column, where edges from one node, and those to one, are apart."""
    (left, top), (_, next_top) = places[way.stops[0]], places[way.stops[1]]
    words = svg.shorten(_role(way.edge), _GAP[0] - 12, 10.0)
    y = (top + next_top) / 2 + _BOX[1] / 2 + 3
    return svg.label(words, left + _BOX[0] + _GAP[0] / 2, y, kind="muted small halo", anchor="middle")


def _role(edge: Edge) -> str:
    role, weight = str(edge.get("role", "")), edge.get("weight")
    return f"{role} {weight:.2f}" if isinstance(weight, float) else role


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
    told = f"{counted(len(nodes), 'version')}."
    return f"{told} {'; '.join(steps)}." if steps else told
