"""Plan files: the same plan after a round trip, the same bytes, typed errors for damage."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import planck
import planck.models
from planck import _core

TYPED = planck.Error


def feeds(batch: int = 2, length: int = 9, size: str = "mini") -> dict[str, np.ndarray]:
    return planck.models.feeds("bert_encoder", (batch, length), size=size)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def plan(model_path: Callable[..., Path]) -> planck.Plan:
    return planck.build(model_path("bert_encoder"))


@pytest.fixture(scope="module")
def small(model_path: Callable[..., Path]) -> bytes:
    """The smallest plan with attention, norms and products, for tests by the thousand."""
    return planck.build(model_path("blocks", n_blocks=1, hidden=16, heads=2)).to_bytes()


def test_round_trip(plan: planck.Plan, tmp_path: Path) -> None:
    path = tmp_path / "bert.plan"
    plan.save(path)
    loaded = planck.load(path)
    assert same(plan.run(feeds()), loaded.run(feeds()))
    assert loaded.sha256 == plan.sha256
    assert loaded.to_bytes() == path.read_bytes() == plan.to_bytes()
    assert loaded.steps == plan.steps
    assert loaded.inputs == plan.inputs and loaded.outputs == plan.outputs
    assert loaded.nodes == plan.nodes and loaded.unused == plan.unused
    assert loaded.report["refusals"] == plan.report["refusals"]
    assert loaded.explain().splitlines()[1:] == plan.explain().splitlines()[1:]
    assert same(plan.run(feeds()), planck.load(path.read_bytes()).run(feeds()))


def test_every_weight_of_the_model_is_in_the_constants(
    plan: planck.Plan, model_path: Callable[..., Path]
) -> None:
    """Nothing is stored twice: the file is as large as the packed weights and its metadata."""
    assert len(plan.to_bytes()) < plan.constant_bytes + (3 << 20)


BUILD = """
import sys, planck
plan = planck.build(sys.argv[1], threads=int(sys.argv[2]))
print(plan.sha256)
"""


def test_two_builds_in_two_processes_give_the_same_bytes(
    plan: planck.Plan, model_path: Callable[..., Path]
) -> None:
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(model_path("bert_encoder")), threads],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == plan.sha256


RUN = """
import sys, planck, planck.models, numpy as np
plan = planck.load(sys.argv[1], repack=sys.argv[2])
out = plan.run(planck.models.feeds("bert_encoder", (2, 9), size="mini"))
np.savez(sys.argv[3], **out)
print(plan.isa)
"""


def test_foreign_isa_is_packed_again(plan: planck.Plan, tmp_path: Path) -> None:
    if plan.isa == "portable":
        pytest.skip("this machine has the portable level only: no plan is foreign to it")
    path = tmp_path / "bert.plan"
    plan.save(path)
    env = {**os.environ, "PLANCK_MAX_ISA": "portable"}

    def other(repack: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", RUN, str(path), repack, str(tmp_path / "out.npz")],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    done = other("auto")
    assert done.stdout.strip() == "portable", done.stderr
    with np.load(tmp_path / "out.npz") as out:
        for name, expected in plan.run(feeds()).items():
            np.testing.assert_allclose(out[name], expected, atol=1e-5)
    refused = other("never")
    assert "TargetError" in refused.stderr and "portable" in refused.stderr


def test_repack_for_this_machine_gives_the_plan_that_is_built_here(
    model_path: Callable[..., Path], tmp_path: Path
) -> None:
    script = "import sys, planck; planck.build(sys.argv[1]).save(sys.argv[2])"
    path = tmp_path / "portable.plan"
    subprocess.run(
        [sys.executable, "-c", script, str(model_path("bert_encoder")), str(path)],
        env={**os.environ, "PLANCK_MAX_ISA": "portable"},
        check=True,
    )
    here = planck.build(model_path("bert_encoder"))
    assert planck.load(path, repack="best").sha256 == here.sha256


def test_failed_save_leaves_the_old_file(plan: planck.Plan, tmp_path: Path) -> None:
    with pytest.raises(planck.FileError):
        plan.save(tmp_path / "no such folder" / "bert.plan")
    target = tmp_path / "folder.plan"
    target.mkdir()
    (target / "kept").write_text("kept")
    with pytest.raises(planck.FileError, match="Is a directory"):
        plan.save(target)
    assert (target / "kept").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [target]


def test_kill_during_save_leaves_the_old_file_or_the_new_one(
    plan: planck.Plan, model_path: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "bert.plan"
    plan.save(path)
    script = """
import sys, planck
plan = planck.load(sys.argv[1])
print("ready", flush=True)
while True:
    plan.save(sys.argv[1])
"""
    chance = random.Random(1)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
            try:
                child.wait(chance.uniform(0, 0.05))
            except subprocess.TimeoutExpired:
                child.kill()
        assert planck.load(path, verify=True).sha256 == plan.sha256


def test_digest(plan: planck.Plan, tmp_path: Path) -> None:
    path = tmp_path / "bert.plan"
    plan.save(path)
    assert planck.load(path, expect_sha256=plan.sha256.upper()).sha256 == plan.sha256
    with pytest.raises(planck.CorruptError, match="SHA-256"):
        planck.load(path, expect_sha256="0" * 64)
    with pytest.raises(planck.FileError):
        planck.load(tmp_path / "missing.plan", expect_sha256="0" * 64)


def test_a_file_with_a_digest_keeps_its_name(plan: planck.Plan, tmp_path: Path) -> None:
    path = tmp_path / "bert.plan"
    plan.save(path)
    assert planck.load(path, expect_sha256=plan.sha256).report["model"] == str(path)
    path.write_bytes(b"no plan")
    digest = hashlib.sha256(b"no plan").hexdigest()
    with pytest.raises(planck.CorruptError) as caught:
        planck.load(path, expect_sha256=digest)
    assert f"load of {path}" in str(caught.value) and "/proc" not in str(caught.value)
    with pytest.raises(planck.LimitError, match=r"bert\.plan"):
        planck.load(path, expect_sha256=digest, limits={"plan_bytes": 1})


def test_truncated_at_every_length(small: bytes) -> None:
    lengths = [*range(200), *range(200, len(small), max(1, len(small) // 400))]
    for length in lengths:
        with pytest.raises(planck.CorruptError):
            planck.load(small[:length])
    with pytest.raises(planck.CorruptError, match="past its end"):
        planck.load(small + b"\0")


def weights_start(plan: bytes) -> int:
    """Offset of the last section, which holds the weights."""
    sections = int.from_bytes(plan[24:28], "little")
    last = 64 + 48 * (sections - 1)
    return int.from_bytes(plan[last + 8 : last + 16], "little")


def test_every_flip_in_what_is_checked_is_found(small: bytes) -> None:
    chance = random.Random(2)
    end = weights_start(small)
    places = [*range(400), *(chance.randrange(400, end) for _ in range(600))]
    for place in places:
        damaged = bytearray(small)
        damaged[place] ^= 1 << chance.randrange(8)
        with pytest.raises((planck.CorruptError, planck.VersionError, planck.TargetError)):
            planck.load(bytes(damaged))


def test_flipped_weights_are_found_with_verify(small: bytes) -> None:
    chance = random.Random(3)
    for _ in range(50):
        damaged = bytearray(small)
        damaged[chance.randrange(weights_start(small), len(small))] ^= 1
        planck.load(bytes(damaged))
        with pytest.raises(planck.CorruptError, match="weights"):
            planck.load(bytes(damaged), verify=True)


def test_rehashed_changes_give_an_error_or_a_result(small: bytes) -> None:
    """An attacker who mends the hashes reaches the reader of the metadata and the verifier."""
    chance = random.Random(4)
    loaded = 0
    for _ in range(600):
        damaged = bytearray(small)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(64, weights_start(small))] = chance.randrange(256)
        try:
            other = planck.load(_core.rehash_plan(bytes(damaged)))
            loaded += 1
            other.run(feeds(1, 5))
        except TYPED as error:
            assert not isinstance(error, planck.InternalError), error
    assert loaded > 0


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, b"ONNX", planck.CorruptError),
        (8, b"\x02\x00", planck.VersionError),
        (8, b"\x00\x00", planck.VersionError),
        (12, b"\x01\x02\x03\x04", planck.TargetError),
        (16, b"\x01", planck.VersionError),
        (24, b"\xff\xff\xff\xff", planck.CorruptError),
    ],
)
def test_header(small: bytes, offset: int, value: bytes, error: type[planck.Error]) -> None:
    damaged = bytearray(small)
    damaged[offset : offset + len(value)] = value
    with pytest.raises(error):
        planck.load(bytes(damaged))


RESIDENT = """
import sys, planck
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
before = resident()
plan = planck.load(sys.argv[1])
print(resident() - before)
"""


def test_a_mapped_plan_takes_no_memory_before_its_run(
    model_path: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "bert.plan"
    planck.build(model_path("bert_encoder", "full")).save(path)
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60e6
    path.chmod(0o666)  # others may write: a copy, since the file could shrink under the mapping
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 300e6
