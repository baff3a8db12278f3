"""In which order the steps of a chain may stand: none may undo what an earlier one has gained."""

from collections.abc import Sequence
from itertools import pairwise

from app.domain.errors import FieldError, InvalidRequestError
from app.domain.optimize_specs import FineTuneStep, PruneStep, Step

# What a step changes. Later stages keep what earlier ones made; the other way round it would be lost.
STUDENT, STRUCTURE, SINGLE_WEIGHTS, CODEBOOKS, NUMBERS = range(5)
_STAGE_OF = {
    "distill": STUDENT,
    "share_weights": STRUCTURE,
    "convolve": STRUCTURE,
    "factorize": STRUCTURE,
    "fine_tune": STRUCTURE,
    "cluster": CODEBOOKS,
    "quantize": NUMBERS,
}
_ANEW = "a student starts anew, so nothing of the steps before it would be left"
_LOST = {
    SINGLE_WEIGHTS: "new structure would not keep the zeros that pruning has made",
    CODEBOOKS: "new structure, new zeros or free weights would not keep the few values that clustering has found",
    NUMBERS: "a quantized graph has no float weights left to change",
}


def check_chain_order(steps: Sequence[Step], *, pointer: str = "/method/steps") -> None:
    """Raise InvalidRequestError, pointing at the first step that would undo an earlier one.

    A distillation comes first; then structure (share_weights, convolve, factorize, structured pruning, in any order);
    then unstructured pruning; then cluster; then quantize, once. `fine_tune` may stand anywhere before cluster.
    """
    stages = pairwise(_stages(steps))
    for place, ((before, step), (earlier, later)) in enumerate(zip(pairwise(steps), stages, strict=True), 1):
        if later > earlier or (later == earlier and later not in (STUDENT, NUMBERS)):
            continue
        why = _ANEW if later == STUDENT else _LOST[earlier]
        detail = f"Step {place + 1}, {name_of(step)}, may not follow {name_of(before)}: {why}."
        raise InvalidRequestError(
            detail,
            hint="Order: distill, then share_weights, convolve, factorize or structured pruning, then unstructured "
            "pruning, then cluster, then quantize; fine_tune anywhere before cluster.",
            errors=[FieldError(f"{pointer}/{place}/method", detail, InvalidRequestError.slug)],
        )


def _stages(steps: Sequence[Step]) -> list[int]:
    """Return the place of every step in the order; a fine-tuning takes that of the step before it, for it keeps all."""
    stages: list[int] = []
    for step in steps:
        before = stages[-1] if stages else STUDENT
        changes_nothing = isinstance(step, FineTuneStep)
        stages.append(min(max(before, STRUCTURE), SINGLE_WEIGHTS) if changes_nothing else stage_of(step))
    return stages


def stage_of(step: Step) -> int:
    """Return the place of a step in the order; steps of one place may follow each other."""
    if isinstance(step, PruneStep):
        return STRUCTURE if step.structure == "structured" else SINGLE_WEIGHTS
    return _STAGE_OF[step.method]


def name_of(step: Step) -> str:
    """Return what a step is called in messages and reports."""
    return f"{step.structure} pruning" if isinstance(step, PruneStep) else step.method
