"""A packed graph is small, unpacks to the same bits, and nothing that is damaged or hostile is taken for one."""

import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from app.domain.errors import ArtifactCorruptedError
from app.serving import coding
from app.serving.packed import MAGIC, is_packed_file, pack, read_graph, unpack, worth_packing, write_graph
from app.serving.runtime import load_engine
from tests.api.builders import ROW, single_graph

KINDS = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64")
SMALL = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20)


def graph_of(*tensors: np.ndarray) -> onnx.ModelProto:
    row = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    held = [numpy_helper.from_array(np.asarray(array), f"t{index}") for index, array in enumerate(tensors)]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return helper.make_model(helper.make_graph(nodes, "graph", row[:1], row[1:], held), ir_version=10)


def resealed(content: bytes) -> bytes:
    """Give changed content a right checksum, as an attacker would."""
    return content[:5] + zlib.crc32(content[9:]).to_bytes(4, "little") + content[9:]


def sparse_and_clustered(size: int, *, values: int = 16, used: float = 0.08) -> np.ndarray:
    rng = np.random.default_rng(0)
    codebook = np.concatenate([[0.0], rng.normal(size=values - 1)]).astype(np.float32)
    probabilities = np.concatenate([[1 - used], rng.dirichlet(np.full(values - 1, 4.0)) * used])
    return codebook[rng.choice(values, size, p=probabilities)]


@settings(deadline=None)
@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, SMALL)))
def test_every_tensor_comes_back_to_the_same_bit(array):
    graph = graph_of(array)
    assert unpack(pack(graph)) == graph


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, st.integers(0, 900), elements=st.sampled_from([0.0, -0.0, 1.5, -2.25, 1e-40, np.nan])),
    st.integers(0, 600),
)
def test_few_values_and_long_gaps_come_back_to_the_same_bit(values, gap):
    spread = np.concatenate([np.zeros(gap, np.float32), values, np.zeros(2 * gap, np.float32)])
    graph = graph_of(spread, values)
    assert unpack(pack(graph)).SerializeToString(deterministic=True) == graph.SerializeToString(deterministic=True)


@pytest.mark.parametrize("allowed", [(one,) for one in coding.DENSE] + [(*coding.DENSE, coding.SPARSE)])
@pytest.mark.parametrize("values", [1, 2, 3, 16, 17, 256])
def test_every_coding_reads_what_it_wrote(allowed, values):
    words = np.random.default_rng(values).integers(0, values, 4099).astype("<u4") * 3
    written = coding.write_words(words, codings=allowed)
    reader = coding.Reader(written, budget=10**7)
    np.testing.assert_array_equal(coding.read_words(reader, len(words), 4), words)
    assert reader.ended


@pytest.mark.parametrize("clusters", [2, 4, 16, 256])
def test_trap_38_the_plain_coding_has_the_bytes_of_its_formula(clusters):
    count = 5003
    words = np.random.default_rng(0).permutation(np.arange(count) % clusters).astype("<f4").view("<u4")
    written = coding.write_words(words, codings=(coding.PLACES,))
    codebook = coding.number(clusters) + coding.write_stream(np.unique(words).tobytes())
    header = 1
    assert len(written) == -(-count * int(np.log2(clusters)) // 8) + len(codebook) + header


def test_trap_38_sixteen_values_of_which_most_are_zero_cost_near_their_entropy():
    weights = sparse_and_clustered(266_200)
    shares = np.unique(weights, return_counts=True)[1] / weights.size
    entropy_bytes = -(shares * np.log2(shares)).sum() * weights.size / 8
    packed = pack(graph_of(weights))
    assert len(packed) < 1.06 * entropy_bytes + 300
    assert graph_of(weights).ByteSize() > 40 * len(packed)
    unpacked = numpy_helper.to_array(unpack(packed).graph.initializer[0])
    np.testing.assert_array_equal(unpacked, weights)


def test_weights_of_ordinary_training_are_not_worth_packing():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(200, 30)).astype(np.float32)
    few, sparse = np.sign(dense), dense * (rng.random(dense.shape) < 0.4)
    assert not worth_packing([dense, dense])
    assert not worth_packing([dense, few[:20]])
    assert worth_packing([dense[:20], few])
    assert worth_packing([sparse])
    assert not worth_packing([])


def test_a_packed_file_serves_as_the_plain_one_does(tmp_path):
    graph, rows = single_graph(0), np.float32([ROW])
    plain, packed = (write_graph(tmp_path, graph, packed=choice) for choice in (False, True))
    assert (plain.name, packed.name) == ("model.onnx", "model.packed")
    assert (is_packed_file(plain), is_packed_file(packed)) == (False, True)
    named_by_digest = tmp_path / "0123abcd"
    packed.rename(named_by_digest)
    assert read_graph(plain) == read_graph(named_by_digest) == graph
    answers = [
        load_engine(source).run(rows, ["probabilities", "logits"])
        for source in (plain, named_by_digest, plain.read_bytes(), named_by_digest.read_bytes())
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


PACKED = pack(graph_of(sparse_and_clustered(600), np.arange(40, dtype=np.float32), np.eye(9, dtype=np.float32)))


@settings(deadline=None)
@given(st.integers(0, len(PACKED) - 1))
def test_a_shortened_file_is_refused(length):
    with pytest.raises(ArtifactCorruptedError):
        unpack(PACKED[:length])


@settings(deadline=None)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place, change):
    damaged = PACKED[:place] + bytes([PACKED[place] ^ change]) + PACKED[place + 1 :]
    with pytest.raises(ArtifactCorruptedError):
        unpack(damaged)


@given(st.lists(st.tuples(st.integers(9, len(PACKED) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_what_was_changed_on_purpose_is_refused_or_read_but_never_breaks(changes):
    content = bytearray(PACKED)
    for place, value in changes:
        content[place] = value
    read = None
    with suppress(ArtifactCorruptedError):
        read = unpack(resealed(bytes(content)), largest_bytes=100_000)
    assert read is None or read.ByteSize() < 200_000


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"\x00\x00")
def test_no_bytes_break_the_reader(noise):
    with pytest.raises(ArtifactCorruptedError):
        unpack(resealed(MAGIC + bytes([1, 0, 0, 0, 0]) + noise))


def test_a_bomb_is_refused_before_it_unfolds():
    bomb = pack(graph_of(np.zeros(50_000_000, np.uint8)))
    assert len(bomb) < 1000
    tracemalloc.start()
    with pytest.raises(ArtifactCorruptedError, match="more bytes than are allowed"):
        unpack(bomb, largest_bytes=1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("huge", [coding.number(2**39), b"\xff" * 12])
def test_huge_numbers_are_refused(huge):
    with pytest.raises(ArtifactCorruptedError):
        unpack(resealed(MAGIC + bytes([1, 0, 0, 0, 0]) + huge))


def test_a_stream_that_unfolds_beyond_its_length_is_refused():
    structure = graph_of(np.zeros(3, np.float32))
    structure.graph.initializer[0].raw_data = b""
    plain = structure.SerializeToString()
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    flood = coder.compress(bytes(1_000_000)) + coder.flush()
    block = coding.number(12) + bytes([4, coding.PLANES]) + (coding.number(3 * len(flood) + 1) + flood) * 4
    body = coding.number(len(plain)) + coding.write_stream(plain) + block
    with pytest.raises(ArtifactCorruptedError, match="a stream holds 4 bytes instead of 3"):
        unpack(resealed(MAGIC + bytes([1, 0, 0, 0, 0]) + body))


def test_a_format_of_a_later_release_is_named():
    with pytest.raises(ArtifactCorruptedError, match="format 9"):
        unpack(PACKED[:4] + bytes([9]) + PACKED[5:])


def test_numbers_in_other_files_are_refused():
    graph = graph_of(np.zeros(3, np.float32))
    graph.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ArtifactCorruptedError, match="another file"):
        unpack(pack(graph))
