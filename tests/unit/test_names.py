import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.domain.errors import InvalidNameError
from app.domain.names import NAME_PATTERN, Name, Reference, check_name, parse_reference

names = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: ".." not in name)
UNSAFE = [
    "",
    "a" * 64,
    "..",
    "a..b",
    "a/b",
    "%2e%2e%2f",
    "a\\b",
    "CON",
    "héllo",
    "\u202eabc",
    ".a",
    "a.",
    "a ",
    "a\n",
    "A",
]


@given(names)
def test_every_name_of_the_rule_is_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert "a-z" in caught.value.hint


@pytest.mark.parametrize("name", UNSAFE)
def test_specs_refuse_the_same_names(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@given(names, st.none() | st.integers(1, 10**9 - 1), st.none() | names)
def test_a_reference_reads_back_as_it_was_written(name: str, version: int | None, alias: str | None) -> None:
    reference = Reference(name, None if alias else version, alias)
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize("text", ["", "a@", "a/0", "a/x", "a@b@c", "a/1@b", "../a", "a/../b", "a@..", "a/1\n"])
def test_what_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(InvalidNameError):
        parse_reference(text)
