"""Members whose labels are the data set's in another order answer in its order from here on."""

from app.domain.alignment import same_classes
from app.domain.models import served_file
from app.serving.alignment import align
from app.serving.packed import is_packed_file, read_graph, write_graph
from worker.assignment import Assignment, VersionInput
from worker.rows import Data


def align_members(assignment: Assignment, data: Data) -> Assignment:
    """Return an assignment whose members answer the data set's classes in its order, by graphs in `scratch`.

    Members of other labels stay as they are: what fuses them refuses them.
    """
    members = assignment.references.get("members", ())
    aligned = tuple(_aligned(member, place, assignment, data) for place, member in enumerate(members))
    if aligned == members:
        return assignment
    return assignment.model_copy(update={"references": {**assignment.references, "members": aligned}})


def _aligned(member: VersionInput, place: int, assignment: Assignment, data: Data) -> VersionInput:
    own, wanted = member.manifest.classes, data.dataset_schema.classes
    if own == wanted or not same_classes(own, wanted):
        return member
    file = served_file(member.files)
    directory = assignment.scratch / "aligned" / str(place)
    directory.mkdir(parents=True, exist_ok=True)
    graph = align(read_graph(member.files[file]), own, wanted)
    path = write_graph(directory, graph, packed=is_packed_file(member.files[file]))
    manifest = member.manifest.model_copy(update={"classes": wanted})
    return member.model_copy(update={"manifest": manifest, "files": {**member.files, file: path}})
