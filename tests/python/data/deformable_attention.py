"""Writes deformable_attention.onnx: attention over two pictures as torch exports it.

The sampling of Deformable DETR (Zhu et al., 2021) and of the detectors that follow it: values are
cut into heads and pictures, each is read at the places that the queries ask for, and the samples
are summed by weights. Needs torch and onnx: python deformable_attention.py
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPES = [(6, 8), (3, 4)]


class Attention(nn.Module):
    """Queries [B, Q, 16], memory [B, S, 16], reference boxes [B, Q, 2, 4] -> [B, Q, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.heads, self.levels, self.points = 16, 2, len(SHAPES), 4
        places = self.heads * self.levels * self.points
        self.offsets = nn.Linear(self.width, 2 * places)
        self.weights = nn.Linear(self.width, places)
        self.values = nn.Linear(self.width, self.width)
        self.out = nn.Linear(self.width, self.width)

    def forward(self, queries: Tensor, memory: Tensor, boxes: Tensor) -> Tensor:
        batch, count, _ = queries.shape
        grid = (batch, count, self.heads, self.levels, self.points)
        depth = self.width // self.heads
        values = self.values(memory).view(batch, memory.shape[1], self.heads, depth)
        offsets = self.offsets(queries).view(*grid, 2)
        weights = self.weights(queries).view(batch, count, self.heads, -1)
        weights = functional.softmax(weights, -1).view(grid)
        centres, sizes = boxes[:, :, None, :, None, :2], boxes[:, :, None, :, None, 2:]
        places = 2 * (centres + offsets / self.points * sizes * 0.5) - 1
        samples = []
        pictures = values.split([height * width for height, width in SHAPES], dim=1)
        for level, (height, width) in enumerate(SHAPES):
            picture = pictures[level].flatten(2).transpose(1, 2)
            picture = picture.reshape(batch * self.heads, depth, height, width)
            at = places[:, :, :, level].transpose(1, 2).flatten(0, 1)
            samples.append(functional.grid_sample(picture, at, align_corners=False))
        weights = weights.transpose(1, 2).reshape(batch * self.heads, 1, count, -1)
        summed = (torch.stack(samples, dim=-2).flatten(-2) * weights).sum(-1)
        return self.out(summed.view(batch, self.width, count).transpose(1, 2).contiguous())


def main() -> None:
    torch.manual_seed(0)
    places = sum(height * width for height, width in SHAPES)
    inputs = (torch.randn(1, 5, 16), torch.randn(1, places, 16), torch.rand(1, 5, 2, 4))
    names = ["queries", "memory", "boxes"]
    axes = {"queries": {0: "B", 1: "Q"}, "memory": {0: "B"}, "boxes": {0: "B", 1: "Q"}}
    path = Path(__file__).with_suffix(".onnx")
    torch.onnx.export(
        Attention().eval(),
        inputs,
        str(path),
        input_names=names,
        output_names=["y"],
        dynamic_axes=axes,
        opset_version=16,
        dynamo=False,
    )
    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("doc_string")
    onnx.save(model, path)


if __name__ == "__main__":
    main()
