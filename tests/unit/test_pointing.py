"""Errors say in which field of a spec they occurred."""

import pytest

from app.domain.errors import FieldError
from app.domain.job_errors import MethodNotApplicableError
from app.domain.pointing import pointing_at, within_step


def refuse() -> None:
    with within_step(2, "factorize"), pointing_at("/method/energy"):
        raise MethodNotApplicableError("No layer would become smaller.", hint="Ask for less.")


def test_an_error_within_a_step_names_the_step_and_its_field():
    with pytest.raises(MethodNotApplicableError, match=r"^Step 2 \(factorize\): No layer") as refused:
        refuse()
    assert refused.value.hint == "Ask for less."
    pointed = FieldError("/method/steps/1/energy", "No layer would become smaller.", "method-not-applicable")
    assert refused.value.errors == (pointed,)


def test_an_error_without_a_field_points_at_the_step():
    with pytest.raises(MethodNotApplicableError) as refused, within_step(1, "prune"):
        raise MethodNotApplicableError("Nothing can go.")
    assert [field.pointer for field in refused.value.errors] == ["/method/steps/0"]
