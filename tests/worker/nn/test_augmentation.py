import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.domain.training_specs import FITTING_AUGMENTATIONS, Augmentation
from worker.nn.augmentation import (
    add_noise,
    augment,
    cut_out,
    deviation_of,
    drop_bytes,
    features_of,
    flip_images,
    mix,
    rotate_signals,
    scale_signals,
    shift_images,
    zoom_images,
)
from worker.nn.data import Feed, Plan, Rows

images = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)))
signals = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 2)),
    elements=st.floats(-100, 100, width=32),
)
seeds = st.integers(0, 2**32 - 1)
RNG = np.random.default_rng(0)
EXAMPLES = {
    "image": RNG.integers(0, 256, (24, 8, 9, 2)).astype(np.uint8),
    "signal": RNG.normal(size=(24, 30, 2)).astype(np.float32),
    "text": RNG.integers(32, 127, (24, 40)).astype(np.uint8),
    "table": RNG.normal(size=(24, 5)).astype(np.float32),
}
STRENGTHS = {"flip": True, "shift": 0.2, "zoom": 0.3, "cutout": 0.4, "scale": 0.3, "noise": 0.5, "byte_dropout": 0.2}
CASES = [(kind, name) for kind, names in FITTING_AUGMENTATIONS.items() for name in sorted(names) if name != "mixup"]


def values_of(array: np.ndarray) -> list[float]:
    return sorted(array.reshape(-1).tolist())


@given(rows=images, seed=seeds)
def test_a_flip_of_a_flip_is_the_image_and_a_flip_keeps_every_line(rows, seed):
    chosen = np.random.default_rng(seed).random(len(rows)) < 0.5
    flipped = flip_images(rows, chosen)
    assert np.array_equal(flip_images(flipped, chosen), rows)
    assert np.array_equal(flipped[~chosen], rows[~chosen])
    assert np.array_equal(flipped[chosen], rows[chosen][:, :, ::-1])


@given(rows=images, down=st.integers(-6, 6), right=st.integers(-6, 6))
def test_a_shift_keeps_the_pixels_that_stay_inside_and_repeats_the_edge(rows, down, right):
    count, height, width = rows.shape[:3]
    moved = shift_images(rows, np.full(count, down), np.full(count, right))
    assert moved.shape == rows.shape
    for line in range(height):
        for column in range(width):
            source = rows[:, np.clip(line - down, 0, height - 1), np.clip(column - right, 0, width - 1)]
            assert np.array_equal(moved[:, line, column], source)


@given(rows=images)
def test_a_zoom_by_one_changes_nothing_and_any_other_stays_between_the_extremes(rows):
    same = zoom_images(rows, np.ones(len(rows)))
    assert np.allclose(same, rows, atol=1e-4)
    for factor in (0.5, 1.7):
        zoomed = zoom_images(rows, np.full(len(rows), factor))
        assert zoomed.shape == rows.shape
        assert zoomed.min() >= rows.min() - 1e-3
        assert zoomed.max() <= rows.max() + 1e-3


def test_a_zoom_enlarges_about_the_centre():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 3:6, 3:6] = 255
    areas = [zoom_images(image, np.array([factor])).sum() for factor in (0.6, 1.0, 1.6)]
    assert areas[0] < areas[1] < areas[2]
    larger = zoom_images(image, np.array([1.6]))
    assert np.allclose(larger, larger[:, ::-1, ::-1])


@given(rows=images, side=st.integers(1, 6), seed=seeds)
def test_cutout_changes_no_more_than_a_square(rows, side, seed):
    cut = cut_out(rows, side, np.random.default_rng(seed))
    changed = (cut != rows).any(axis=3)
    assert (changed.sum(axis=(1, 2)) <= side * side).all()
    for each in changed:
        lines, columns = np.flatnonzero(each.any(axis=1)), np.flatnonzero(each.any(axis=0))
        assert len(lines) == 0 or max(np.ptp(lines), np.ptp(columns)) < side


@given(rows=signals, share=st.floats(0.01, 0.5), seed=seeds)
def test_a_signal_moved_around_its_end_keeps_its_samples_in_their_circle(rows, share, seed):
    moved = rotate_signals(rows, share, np.random.default_rng(seed))
    for before, after in zip(rows, moved, strict=True):
        assert any(np.array_equal(np.roll(before, places, axis=0), after) for places in range(len(before)))


@given(rows=signals, share=st.floats(0.01, 0.9), seed=seeds)
def test_a_scaled_signal_is_the_signal_times_one_factor(rows, share, seed):
    factors = np.random.default_rng(seed).uniform(1 - share, 1 + share, len(rows))
    scaled = scale_signals(rows, share, np.random.default_rng(seed))
    assert np.allclose(scaled, rows * factors[:, None, None], rtol=1e-5, atol=1e-4)


def test_noise_has_the_deviation_that_is_asked_for_per_column():
    rows = np.zeros((4000, 2), np.float32)
    noisy = add_noise(rows, 0.5 * np.array([1.0, 4.0]), np.random.default_rng(0))
    assert np.allclose(noisy.std(axis=0), [0.5, 2.0], rtol=0.1)
    columns = np.stack([np.full(4000, 7.0), np.arange(4000.0)], axis=1).astype(np.float32)
    changed = augment(columns, Augmentation(noise=0.1), "table", np.random.default_rng(0))
    assert np.array_equal(changed[:, 0], columns[:, 0])
    assert np.std(changed[:, 1] - columns[:, 1]) == pytest.approx(0.1 * columns[:, 1].std(), rel=0.1)


@given(rows=signals, padding=st.integers(0, 5), seed=seeds)
def test_noise_spares_the_zeros_that_pad_a_signal(rows, padding, seed):
    rows = np.pad(np.where(rows == 0, 1, rows), ((0, 0), (0, padding), (0, 0)))
    changed = augment(rows, Augmentation(noise=0.5), "signal", np.random.default_rng(seed), deviation=np.float32([1]))
    assert (changed[:, rows.shape[1] - padding :] == 0).all()
    assert (changed[:, : rows.shape[1] - padding] != rows[:, : rows.shape[1] - padding]).mean() > 0.9


@given(share=st.floats(0.05, 0.9), seed=seeds)
def test_byte_dropout_replaces_about_its_share_by_zero_and_nothing_else(share, seed):
    texts = np.random.default_rng(1).integers(1, 256, (40, 100)).astype(np.uint8)
    dropped = drop_bytes(texts, share, np.random.default_rng(seed))
    assert np.array_equal(dropped[dropped > 0], texts[dropped > 0])
    assert abs((dropped == 0).mean() - share) < 0.06


@given(seed=seeds, strength=st.floats(0.1, 5))
def test_mixup_keeps_targets_probabilities_and_mixes_rows_by_the_same_share(seed, strength):
    rng = np.random.default_rng(3)
    targets = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 12)]
    x, mixed, weights = mix(targets * 9, targets, np.arange(12.0), strength, np.random.default_rng(seed))
    assert np.allclose(mixed.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(x, 9 * mixed, atol=1e-5)
    assert mixed.min() >= 0
    assert (weights >= 0).all()
    assert (weights <= 11).all()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_option_changes_the_rows_it_fits_and_leaves_the_given_ones_alone(kind, name):
    rows, given_rows = EXAMPLES[kind], EXAMPLES[kind].copy()
    option = Augmentation(**{name: STRENGTHS[name]})
    first, again, other = (augment(rows, option, kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(rows, given_rows)
    assert first.shape == rows.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, rows)
    assert not np.array_equal(first, other)
    plain = augment(rows, Augmentation(), kind, np.random.default_rng(1))
    assert np.array_equal(plain, rows)
    assert plain is not rows


@pytest.mark.parametrize("kind", EXAMPLES)
def test_raw_rows_tell_their_kind(kind):
    assert features_of(EXAMPLES[kind]) == kind


def test_bytes_stay_bytes_where_no_arithmetic_is_done():
    option = Augmentation(flip=True, shift=0.2, cutout=0.3)
    assert augment(EXAMPLES["image"], option, "image", np.random.default_rng(0)).dtype == np.uint8
    zoomed = augment(EXAMPLES["image"], Augmentation(zoom=0.2), "image", np.random.default_rng(0))
    assert zoomed.dtype == np.float32


def test_the_deviation_of_many_rows_is_that_of_some():
    rows = np.random.default_rng(0).normal(size=(50_000, 2)) * [1, 3]
    assert np.allclose(deviation_of(rows), [1, 3], rtol=0.05)
    assert np.allclose(deviation_of(rows[:100]), rows[:100].std(axis=0))


def feed_of(kind: str, **options: object) -> Feed:
    targets = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    rows = Rows(EXAMPLES[kind], targets, EXAMPLES[kind][:0], targets[:0])
    return Feed(rows, Plan(24, 7, 3, seed=4), Augmentation(**options))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("image", {"flip": True, "shift": 0.2, "zoom": 0.1, "cutout": 0.3, "mixup": 0.4}),
        ("signal", {"shift": 0.2, "scale": 0.1, "noise": 0.3}),
        ("text", {"byte_dropout": 0.2}),
        ("table", {"noise": 0.1, "mixup": 1.0}),
    ],
)
def test_a_batch_is_changed_alike_however_batches_are_read_and_anew_in_every_epoch(kind, options):
    whole = feed_of(kind, **options)
    first, second = whole.chunk(0, 99), whole.chunk(4, 99)
    assert (first.steps, second.steps) == (4, 4)
    apart = [feed_of(kind, **options).chunk(step, 1) for step in range(8)]
    for chunk, parts in ((first, apart[:4]), (second, apart[4:])):
        assert np.array_equal(chunk.x, np.concatenate([part.x for part in parts]))
        assert np.array_equal(chunk.targets, np.concatenate([part.targets for part in parts]))
    plain = feed_of(kind).chunk(0, 99)
    assert not np.array_equal(plain.x, first.x)
    draws = [chunk.x.astype(float) - feed_of(kind).chunk(step, 99).x for chunk, step in ((first, 0), (second, 4))]
    assert values_of(draws[0]) != values_of(draws[1])
