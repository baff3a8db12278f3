"""Which operator sets a graph made of several may import."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import defs, helper

from app.domain.errors import InvalidEnsembleError

ML_DOMAIN = "ai.onnx.ml"
# Version 3 only lets tensors hold what lists of attributes held before (ONNX, Changelog-ml, version 3).
_ONLY_WIDER = {("TreeEnsembleClassifier", 1, 3), ("TreeEnsembleRegressor", 1, 3)}


def opsets_of(graph: onnx.ModelProto) -> dict[str, int]:
    """Return the version of every operator set that a graph imports, by domain."""
    return {entry.domain: entry.version for entry in graph.opset_import}


def merge_opsets(members: Sequence[onnx.ModelProto], *, opset: int) -> list[onnx.OperatorSetIdProto]:
    """Return operator sets under which every node of every member means what it means in the member.

    Raise InvalidEnsembleError when there are none.
    """
    found = [opsets_of(member) for member in members]
    for index, own in enumerate(found):
        if own.get("") != opset or not own.keys() <= {"", ML_DOMAIN}:
            raise InvalidEnsembleError(f"Member {index} is not of ONNX opset {opset}.", hint="Export it again.")
    newest = max((own.get(ML_DOMAIN, 0) for own in found), default=0)
    for index, (member, own) in enumerate(zip(members, found, strict=True)):
        _check_meaning(member, own, newest, index)
    merged: Mapping[str, int] = {"": opset} | ({ML_DOMAIN: newest} if newest else {})
    return [helper.make_opsetid(domain, version) for domain, version in merged.items()]


def _check_meaning(member: onnx.ModelProto, own: Mapping[str, int], newest: int, index: int) -> None:
    for name in {node.op_type for node in member.graph.node if node.domain == ML_DOMAIN}:
        before, after = (
            defs.get_schema(name, version, ML_DOMAIN).since_version for version in (own[ML_DOMAIN], newest)
        )
        if before != after and (name, before, after) not in _ONLY_WIDER:
            raise InvalidEnsembleError(
                f"Member {index} has a {name} of {ML_DOMAIN} {before}; another member needs version {newest}.",
                hint=f"Export both with the same version of {ML_DOMAIN}.",
            )
