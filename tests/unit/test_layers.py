import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domain import layers as ly
from app.domain.errors import InvalidArchitectureError


def places(size: int, window: int, stride: int, padding: str) -> int:
    """Count by hand where a window can start."""
    if padding == "same":
        return len(range(0, size, stride))
    return len(range(0, size - window + 1, stride))


def test_a_convolution_has_the_shape_variables_and_cost_of_the_formula():
    found = ly.Conv2D(name="conv", filters=32).infer((28, 28, 1))
    assert found.output == (28, 28, 32)
    assert found.variables == {"kernel": (3, 3, 1, 32), "bias": (32,)}
    assert found.macs == 28 * 28 * 3 * 3 * 32


@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["same", "valid"]),
)
def test_windows_fit_as_often_as_counting_says(size, kernel, stride, padding):
    layer = ly.Conv1D(name="conv", filters=2, kernel_size=kernel, strides=stride, padding=padding)
    expected = places(size, kernel, stride, padding)
    if expected > 0:
        assert layer.infer((size, 3)).output == (expected, 2)
    else:
        with pytest.raises(InvalidArchitectureError, match="leaves nothing"):
            layer.infer((size, 3))


@given(size=st.integers(8, 30), kernel=st.integers(1, 5), dilation=st.integers(1, 3))
def test_dilation_widens_the_window(size, kernel, dilation):
    layer = ly.Conv2D(name="c", filters=1, kernel_size=kernel, dilation=dilation, padding="valid")
    window = dilation * (kernel - 1) + 1
    if window > size:
        return
    assert layer.infer((size, size, 1)).output == (size - window + 1, size - window + 1, 1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_trap_41_separable_convolution_keeps_stride_padding_and_bias(stride, padding, use_bias, multiplier):
    layer = ly.SeparableConv2D(
        name="c", filters=8, strides=stride, padding=padding, use_bias=use_bias, depth_multiplier=multiplier
    )
    found = layer.infer((9, 7, 4))
    high, wide = places(9, 3, stride, padding), places(7, 3, stride, padding)
    assert found.output == (high, wide, 8)
    assert found.macs == high * wide * (3 * 3 * 4 * multiplier + 4 * multiplier * 8)
    assert ("bias" in found.variables) is use_bias


@given(groups=st.integers(1, 6), inner=st.integers(1, 4), outer=st.integers(1, 4), stride=st.integers(1, 3))
def test_a_grouped_convolution_costs_its_share_of_a_full_one(groups, inner, outer, stride):
    channels, filters = groups * inner, groups * outer
    whole = ly.Conv2D(name="c", filters=filters, strides=stride).infer((9, 7, channels))
    found = ly.Conv2D(name="c", filters=filters, strides=stride, groups=groups).infer((9, 7, channels))
    assert found.output == whole.output
    assert found.variables == {"kernel": (3, 3, inner, filters), "bias": (filters,)}
    assert found.macs * groups == whole.macs
    assert ly.Conv1D(name="c", filters=filters, groups=groups).infer((9, channels)).variables["kernel"] == (
        3,
        inner,
        filters,
    )


def test_the_log_mel_spectrum_has_a_frame_per_step():
    layer = ly.LogMel(name="mel", sample_rate=8000, frame_length=256, frame_step=128, mel_bins=40)
    assert layer.infer((8000, 1)).output == (61, 40)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (ly.Conv2D(name="c", filters=1), (8,), r"needs an input of shape \(height, width, channels\)"),
        (ly.GlobalAvgPool(name="g"), (8,), r"\(steps, channels\) or \(height, width, channels\)"),
        (ly.Reshape(name="r", shape=(3, 3)), (8,), "8 numbers are not 9"),
        (ly.MaxPool1D(name="p", pool_size=4), (3, 1), "leaves nothing"),
        (ly.LogMel(name="m", sample_rate=8000), (100, 1), "a row has only 100"),
        (ly.LogMel(name="m", sample_rate=8000), (1000, 2), "needs one channel"),
        (ly.HashedNGrams(name="n", sizes=(1, 5)), (4,), "n-grams of 5 bytes, but a row has only 4"),
        (ly.HashedNGrams(name="n"), (9, 1), r"needs an input of shape \(features,\)"),
        (ly.Conv1D(name="c", filters=1, strides=2, dilation=2), (9, 1), "both strides and dilation"),
        (ly.Conv1D(name="c", filters=4, groups=2), (9, 3), "2 groups, but the 3 channels of its input"),
        (ly.Conv2D(name="c", filters=3, groups=2), (9, 9, 4), "2 groups, but the 3 filters"),
    ],
)
def test_a_layer_says_why_its_input_does_not_fit(layer, shape, words):
    with pytest.raises(InvalidArchitectureError, match=words):
        layer.infer(shape)


@pytest.mark.parametrize("shapes", [[(3, 2)], [(3, 2), (3, 1)]])
def test_only_equal_shapes_are_added(shapes):
    with pytest.raises(InvalidArchitectureError, match="of one shape"):
        ly.Add(name="sum", inputs=("a", "b")).infer(*shapes)


def test_inputs_are_joined_along_their_last_axis():
    assert ly.Concat(name="join", inputs=("a", "b")).infer((4, 2), (4, 3)).output == (4, 5)
    with pytest.raises(InvalidArchitectureError, match="differ in the last axis only"):
        ly.Concat(name="join", inputs=("a", "b")).infer((4, 2), (5, 2))


def test_a_window_may_be_one_number():
    assert ly.layer_adapter.validate_python(
        {"type": "conv2d", "name": "c", "filters": 4, "kernel_size": 5}
    ).kernel_size == (
        5,
        5,
    )


@pytest.mark.parametrize(
    "field",
    [
        {"units": 0},
        {"units": -1},
        {"units": 2**31},
        {"units": "8"},
        {"units": True},
        {"lambda": "x"},
        {"name": "a b"},
        {"activation": "softmax"},
        {"activation": "os.system"},
    ],
)
def test_a_field_out_of_bounds_is_refused(field):
    with pytest.raises(ValidationError):
        ly.layer_adapter.validate_python({"type": "dense", "name": "d", "units": 8, **field})
