"""The models by name; a new family adds one row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planck.models import (
    bert,
    crnn,
    dab_detr,
    digits,
    minilm,
    real,
    resnet,
    vilbert,
    wenet_decoder,
    wenet_encoder,
)
from planck.models._weights import Archive, Array
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
    "dab_detr": Family(dab_detr.detector, dab_detr.feeds),
    "resnet50": Family(resnet.classifier, resnet.feeds),
    "crnn": Family(crnn.recogniser, crnn.feeds),
    "digits": Family(digits.classifier, digits.feeds),
}


# Weights that bench/train made, for the size "mini": NAME.npz, NAME_qat.npz.
TRAINED = Path(__file__).parent / "trained"


def names() -> list[str]:
    """The models that are built, then those that lie in packages."""
    return [*FAMILIES, *real.MODELS]


def copy(
    name: str,
    path: str | Path,
    size: str,
    opset: int | None,
    external_data: bool,
    trained: bool | str,
    **options: Any,
) -> bool:
    """Copy the model if it is a packaged one, and say whether it is; see planck.models.write."""
    if name not in real.MODELS:
        return False
    chosen: dict[str, Any] = {"size": size if size != "full" else None, "opset": opset}
    chosen |= {"external_data": external_data or None, "trained": trained or None, **options}
    _check_packaged(name, [key for key, value in chosen.items() if value is not None])
    real.copy(name, path)
    return True


def build(
    name: str,
    size: str,
    seed: int,
    opset: int | None,
    trained: bool | str,
    options: dict[str, Any],
) -> GraphWriter:
    """Build the graph of a model; see planck.models.write for the arguments and errors."""
    if name in real.MODELS:
        raise ValueError(
            f"{name} is a file of a package: write copies it, build has no graph of it"
        )
    family = _family(name, size)
    _check_options(name, family.build, options)
    graph = family.build(size, seed, opset, **options)
    if trained:
        graph.take_weights_from(Archive(_trained_file(name, size, trained)))
    return graph


def _trained_file(name: str, size: str, trained: bool | str) -> Path:
    stem = name if trained is True else f"{name}_{trained}"
    known = sorted(path.stem for path in TRAINED.glob("*.npz"))
    if size != "mini" or stem not in known:
        raise ValueError(
            f"there are no trained weights {stem!r} in size {size!r}; in size 'mini' there are "
            + ", ".join(known)
        )
    return TRAINED / f"{stem}.npz"


def feeds(
    name: str, shape: tuple[int, ...], seed: int, size: str, options: dict[str, Any]
) -> dict[str, Array]:
    """Make inputs for a model; see planck.models.feeds."""
    if name in real.MODELS:
        _check_packaged(name, [*options, *([] if size == "full" else ["size"])])
        return real.feeds(name, tuple(shape), seed)
    family = _family(name, size)
    _check_options(name, family.feeds, options)
    return family.feeds(tuple(shape), seed, size, **options)


def _family(name: str, size: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"there is no model {name!r}; the models are " + ", ".join(names()))
    if size not in ("full", "mini"):
        raise ValueError(f"size is {size!r}, but must be 'full' or 'mini'")
    return FAMILIES[name]


def _check_packaged(name: str, chosen: list[str]) -> None:
    if chosen:
        raise ValueError(f"{name} is a file of a package, as it is: it has no {', '.join(chosen)}")


def _check_options(name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
    # Both functions of a family take three arguments before the options.
    allowed = list(inspect.signature(function).parameters)[3:]
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"{name} has no option {option!r}; the options are " + ", ".join(allowed)
            )
