from app.domain.models import recipe_digest

SPEC = {"kind": "train", "name": "a", "dataset": "digits", "seed": 0, "training": {"epochs": 2}}


def test_labels_do_not_change_what_is_trained() -> None:
    relabelled = SPEC | {"name": "b", "alias": "champion", "tags": {"team": "vision"}, "priority": 3}
    assert recipe_digest(SPEC, "d" * 64, protocol=1) == recipe_digest(relabelled, "d" * 64, protocol=1)


def test_seed_data_and_code_protocol_do() -> None:
    digests = {
        recipe_digest(SPEC, "d" * 64, protocol=1),
        recipe_digest(SPEC | {"seed": 1}, "d" * 64, protocol=1),
        recipe_digest(SPEC, "e" * 64, protocol=1),
        recipe_digest(SPEC, "d" * 64, protocol=2),
    }
    assert len(digests) == 4


def test_further_data_changes_the_recipe_and_none_leaves_it_as_it_was() -> None:
    plain = recipe_digest(SPEC, "d" * 64, protocol=1)
    assert recipe_digest(SPEC, "d" * 64, protocol=1, unlabelled=[]) == plain
    digests = {recipe_digest(SPEC, "d" * 64, protocol=1, unlabelled=[digest * 64]) for digest in "ef"}
    assert len(digests | {plain}) == 3
