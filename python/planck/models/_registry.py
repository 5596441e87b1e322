"""The models by name; a new family adds one row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planck.models import bert, minilm, vilbert, wenet_decoder, wenet_encoder
from planck.models._weights import Array
from planck.models._writer import GraphWriter


@dataclass(frozen=True, slots=True)
class Family:
    """What a model name stands for.

    build(size, seed, opset, **options) returns the graph; feeds(shape, seed, size, **options)
    returns one array per input.
    """

    build: Callable[..., GraphWriter]
    feeds: Callable[..., dict[str, Array]]


def _token_feeds(
    make_feeds: Callable[[tuple[int, ...], int, int, bool], dict[str, Array]],
    configs: Mapping[str, bert.Config | vilbert.Config],
) -> Callable[..., dict[str, Array]]:
    def make(
        shape: tuple[int, ...], seed: int, size: str, masked_row: bool = False
    ) -> dict[str, Array]:
        return make_feeds(shape, seed, configs[size].vocabulary, masked_row)

    return make


FAMILIES = {
    "bert_encoder": Family(bert.encoder, _token_feeds(bert.feeds, bert.CONFIGS)),
    "bert_classifier": Family(bert.classifier, _token_feeds(bert.feeds, bert.CONFIGS)),
    "minilm": Family(minilm.sentence_encoder, _token_feeds(bert.feeds, minilm.CONFIGS)),
    "vilbert": Family(vilbert.grounding, _token_feeds(vilbert.feeds, vilbert.CONFIGS)),
    "wenet_encoder": Family(wenet_encoder.encoder, wenet_encoder.feeds),
    "wenet_decoder": Family(wenet_decoder.decoder, wenet_decoder.feeds),
}


def build(
    name: str, size: str, seed: int, opset: int | None, options: dict[str, Any]
) -> GraphWriter:
    """Build the graph of a model; see planck.models.write for the arguments and errors."""
    family = _family(name, size)
    _check_options(name, family.build, options)
    return family.build(size, seed, opset, **options)


def feeds(
    name: str, shape: tuple[int, ...], seed: int, size: str, options: dict[str, Any]
) -> dict[str, Array]:
    """Make inputs for a model; see planck.models.feeds."""
    family = _family(name, size)
    _check_options(name, family.feeds, options)
    return family.feeds(tuple(shape), seed, size, **options)


def _family(name: str, size: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"there is no model {name!r}; the models are " + ", ".join(FAMILIES))
    if size not in ("full", "mini"):
        raise ValueError(f"size is {size!r}, but must be 'full' or 'mini'")
    return FAMILIES[name]


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    # Both functions of a family take three arguments before the options.
    allowed = list(inspect.signature(function).parameters)[3:]
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"{name} has no option {option!r}; the options are " + ", ".join(allowed)
            )
