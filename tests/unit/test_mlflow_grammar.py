"""MLflow's filters and orders: what is read, what is refused, and that nothing else can happen."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.mlflow.grammar import MODELS, MOST_CONDITIONS, VERSIONS, parse_filter, parse_order
from app.db.mlflow import Condition, Order
from app.domain.request_errors import InvalidFilterError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
keys = st.text(st.characters(exclude_characters="`\x00", exclude_categories=["Cs"]), min_size=1, max_size=20)
conditions = st.one_of(
    st.builds(Condition, st.just(True), keys, st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), texts),
    st.builds(Condition, st.just(False), st.just("name"), st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), texts),
    st.builds(
        Condition,
        st.just(False),
        st.sampled_from(["name", "run_id"]),
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(texts, min_size=1, max_size=4).map(tuple),
    ),
    st.builds(
        Condition,
        st.just(False),
        st.just("version_number"),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.integers(0, 2**31 - 1),
    ),
)


def written(condition: Condition) -> str:
    key = f"tag.`{condition.key}`" if condition.on_tag else condition.key
    return f"{key} {condition.operator} {value(condition.value)}"


def value(given: object) -> str:
    if isinstance(given, int):
        return str(given)
    if isinstance(given, tuple):
        return f"({', '.join(value(item) for item in given)})"
    return "'" + str(given).replace("'", "''") + "'"


@given(st.lists(conditions, max_size=6))
def test_what_is_written_is_read(chosen: list[Condition]) -> None:
    assert parse_filter(" AND ".join(written(condition) for condition in chosen), VERSIONS) == chosen


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for known in (MODELS, VERSIONS):
        try:
            parse_filter(text, known)
            parse_order([text], known)
        except InvalidFilterError:
            continue


@given(
    st.lists(st.sampled_from(["name", "tag.", "`a`", "'b'", '"c"', "=", "LIKE", "IN", "(", ",", ")", "AND", " ", "1"]))
)
def test_any_order_of_words_is_read_or_refused(words: list[str]) -> None:
    with contextlib.suppress(InvalidFilterError):
        assert parse_filter(" ".join(words), MODELS) or not "".join(words).strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name='a'", [Condition(False, "name", "=", "a")]),
        ("  attribute.name   like 'a%'  ", [Condition(False, "name", "LIKE", "a%")]),
        ('tags."a b" != "c"', [Condition(True, "a b", "!=", "c")]),
        ("tag.a.b.c = 'd'", [Condition(True, "a.b.c", "=", "d")]),
        ("name in('a','b')", [Condition(False, "name", "IN", ("a", "b"))]),
        (
            "name = 'AND' and tag.`mlflow.prompt.is_prompt` != 'true'",
            [Condition(False, "name", "=", "AND"), Condition(True, "mlflow.prompt.is_prompt", "!=", "true")],
        ),
        ("", []),
    ],
)
def test_the_forms_that_clients_write(text: str, expected: list[Condition]) -> None:
    assert parse_filter(text, MODELS) == expected


@pytest.mark.parametrize(
    "text",
    ["name", "name =", "name = a", "name = 'a' name = 'b'", "name = 'a' AND", "colour = 'a'", "name > 'a'", "= 'a'"],
)
def test_a_refusal_names_the_place(text: str) -> None:
    with pytest.raises(InvalidFilterError, match="at character"):
        parse_filter(text, MODELS)


def test_a_filter_has_a_limit() -> None:
    parse_filter(" AND ".join(["name = 'a'"] * MOST_CONDITIONS), MODELS)
    with pytest.raises(InvalidFilterError):
        parse_filter(" AND ".join(["name = 'a'"] * (MOST_CONDITIONS + 1)), MODELS)


def test_orders_are_read() -> None:
    terms = ["name", "creation_timestamp DESC", "last_updated_timestamp asc", "`name` desc"]
    assert parse_order(terms, MODELS) == [
        Order("name"),
        Order("creation_timestamp", descending=True),
        Order("last_updated_timestamp"),
        Order("name", descending=True),
    ]
    with pytest.raises(InvalidFilterError):
        parse_order(["version_number"], MODELS)
