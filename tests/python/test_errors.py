"""Bad feeds, options and files: a typed error that says what, where, expected and got."""

from __future__ import annotations

import sys
import time
import traceback

import numpy as np
import pytest

import planck
import planck.models


@pytest.fixture(scope="module")
def bert(model_path):
    return planck.build(model_path("bert_encoder"))


@pytest.fixture
def feeds():
    return planck.models.feeds("bert_encoder", (2, 6), size="mini")


def refused(plan, feeds, *words):
    with pytest.raises(planck.FeedError) as caught:
        plan.run(feeds)
    for word in words:
        assert word in str(caught.value)
    assert isinstance(caught.value, ValueError) and caught.value.code == "feed"
    return caught.value


def test_wrong_name_lists_the_right_ones(bert, feeds):
    feeds["ids"] = feeds.pop("input_ids")
    refused(bert, feeds, "'ids'", "'input_ids'", "'attention_mask'")


def test_missing_input(bert, feeds):
    del feeds["attention_mask"]
    error = refused(bert, feeds, "'attention_mask'", "int64[")
    assert error.expected.startswith("int64[")


def test_wrong_dtype(bert, feeds):
    feeds["input_ids"] = feeds["input_ids"].astype(np.float32)
    error = refused(bert, feeds, "'input_ids'", "int64[", "float32[2,6]", "astype")
    assert error.got == "float32[2,6]"


def test_object_array(bert, feeds):
    feeds["input_ids"] = feeds["input_ids"].astype(object)
    refused(bert, feeds, "'input_ids'", "Python objects")


def test_wrong_rank(bert, feeds):
    feeds["input_ids"] = feeds["input_ids"][0]
    refused(bert, feeds, "'input_ids'", "rank 1 instead of 2", "int64[6]")


def test_shapes_that_disagree(bert, feeds):
    feeds["attention_mask"] = feeds["attention_mask"][:, :5]
    refused(bert, feeds, "'attention_mask'", "is 5 here and 6", "int64[2,5]")


def test_index_outside_its_table(bert, feeds):
    good = bert.run(feeds)
    bad = {**feeds, "input_ids": feeds["input_ids"].copy()}
    bad["input_ids"][1, 2] = 10**6
    with pytest.raises(planck.RunError, match="index 1000000 of row 8 is outside"):
        bert.run(bad)
    again = bert.run(feeds)  # the plan stays usable
    assert all(np.array_equal(again[n], good[n]) for n in good)


def test_length_beyond_the_position_table(bert):
    feeds = planck.models.feeds("bert_encoder", (1, 512), size="mini")
    longer = {name: np.concatenate([a, a[:, :1]], axis=1) for name, a in feeds.items()}
    with pytest.raises(planck.RunError, match="do not broadcast"):
        bert.run(longer)


def test_out_arrays_are_checked(bert, feeds):
    out = bert.run(feeds)
    with pytest.raises(planck.FeedError, match="no output 'logits'"):
        bert.run(feeds, out={"logits": out["pooler_output"]})
    with pytest.raises(planck.FeedError, match=r"expected a writable C-contiguous float32\[2,64\]"):
        bert.run(feeds, out={"pooler_output": out["pooler_output"][:1]})
    fixed = out["pooler_output"].copy()
    fixed.setflags(write=False)
    with pytest.raises(planck.FeedError, match=r"got float32\[2,64\], read-only") as error:
        bert.run(feeds, out={"pooler_output": fixed})
    assert "plan.outputs" in error.value.hint
    with pytest.raises(planck.FeedError, match=r"got float32\[2,64\], not C-contiguous"):
        bert.run(feeds, out={"pooler_output": np.asfortranarray(fixed)})


def test_options(model_path):
    path = model_path("bert_encoder")
    with pytest.raises(planck.UsageError, match="expected one of"):
        planck.build(path, precision="fp31")
    with pytest.raises(planck.PrecisionError, match="no kernels yet"):
        planck.build(path, precision="bf16")
    with pytest.raises(planck.PrecisionError, match="needs scales"):
        planck.build(path, precision="int8")
    with pytest.raises(planck.UsageError, match="threads"):
        planck.build(path, threads=0)
    with pytest.raises(planck.CancelledError):
        planck.build(path, progress=lambda stage, done: False)
    with pytest.raises(planck.FileError, match="nowhere"):
        planck.build("nowhere.onnx")


def test_model_cut_at_200_places(model_path, tmp_path):
    """Typed error or a valid model that is left, at most a second each."""
    data = model_path("bert_encoder").read_bytes()
    path = tmp_path / "cut.onnx"
    refused_count = 0
    for place in np.linspace(0, len(data) - 1, 200).astype(int):
        path.write_bytes(data[:place])
        start = time.perf_counter()
        try:
            planck.build(path)
        except planck.Error as error:
            assert not isinstance(error, planck.InternalError), error
            refused_count += 1
        assert time.perf_counter() - start <= 1
    assert refused_count == 200


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tracebacks show notes from 3.11 on")
def test_tracebacks_show_what_was_expected_and_the_hint():
    """Whether the error was made in C++ or in Python, and also what others add."""
    with pytest.raises(planck.FileError) as error:
        planck.build("nowhere.onnx")
    error.value.add_note("while reading the settings")
    shown = traceback.format_exception_only(error.value)
    assert shown[-3:] == [
        "expected: a readable file\n",
        "hint: check the path and its permissions\n",
        "while reading the settings\n",
    ]
    late = planck.UsageError("x is 1; expected 2")
    late.expected, late.hint = "2", "give 2"  # which the sentence says already
    assert late.__notes__ == ["hint: give 2"]
    assert not hasattr(ValueError("plain"), "__notes__")
