"""Train the BERT mini to say which of two patterns occurs more often (bench/train/patterns.py).

python -m bench.train.train_bert_classifier
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train.fit import Schedule, Tensors, fit, keep, task_of
from bench.train.task import Batch
from bench.train.torch_parts import Scope, as_tensors, bert_trunk, initial, linear
from planck.models.bert import CONFIGS

_EPSILON = 1e-12


def forward(tensors: Tensors, feeds: Tensors) -> Tensors:
    """Logits f32 [B, 3]."""
    scope = Scope(tensors)
    hidden = bert_trunk(scope / "bert", feeds, CONFIGS["mini"], _EPSILON)
    pooled = linear(scope / "bert" / "pooler" / "dense", hidden[:, 0]).tanh()
    return {"logits": linear(scope / "classifier", pooled)}


def loss(tensors: Tensors, batch: Batch) -> Tensor:
    """Cross entropy."""
    logits = forward(tensors, as_tensors(batch.feeds))["logits"]
    return F.cross_entropy(logits, as_tensors(batch.answers)["label"])


def main() -> None:
    """Train, store, print."""
    task = task_of("bert_classifier")
    tensors = initial(task.model, seed=1)
    fit(tensors, loss, task.make, Schedule(steps=6000, batch=128, rate=2e-3))
    keep(task.model, task, tensors, forward, shown=8)


if __name__ == "__main__":
    main()
