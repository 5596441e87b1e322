"""Logic of the model benchmark; asserts no times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import environment, models, noisy, report, steps
from bench.cases import Case, Thresholds, load_cases, load_thresholds
from bench.peers import Problem, relative_error
from bench.report import CaseResult, EngineResult

CASE = Case("toy", "tiny", (1, 4), cold="none", runs=2, peers=("slow", "fast"))
LIMITS = Thresholds(spread=0.1, scale_growth=0.05, error={"fp32": 1e-4})


def readings(*medians_ms: float) -> EngineResult:
    """An engine whose rounds have one run each."""
    return EngineResult(rounds=[[ms / 1e3] for ms in medians_ms], error=0.0)


def result(ours: EngineResult, goal: float | None = 1.2, **changes: EngineResult) -> CaseResult:
    peers = {"slow": readings(30, 30, 30), "fast": readings(20, 20, 20)} | changes
    return CaseResult(CASE, {"planck": ours, **peers}, goal, LIMITS)


def fake(*names: str, **options: float) -> dict[str, EngineResult]:
    """Runs fake engines as the benchmark does; short names are classes of fake_engines."""
    problem = Problem("unused.onnx", {"x": np.arange(4, dtype=np.float32)}, ("y",))
    method = models.Method(rounds=3, timeout_s=options.get("timeout_s", 30.0))
    found = models.run_case(CASE, [f"fake_engines:{name}" for name in names], method, problem)
    return {name.partition(":")[2]: value for name, value in found.items()}


# Statistics


def test_median_is_taken_over_rounds() -> None:
    engine = EngineResult(rounds=[[0.1, 0.2, 0.9], [0.3, 0.3, 0.3], [0.4, 0.4, 0.5]])
    assert engine.medians() == [0.2, 0.3, 0.4]
    assert engine.median() == 0.3
    assert engine.spread() == pytest.approx(2 / 3)
    assert engine.percentile(50) == pytest.approx(0.3)
    assert engine.percentile(100) == pytest.approx(0.9)


def test_nothing_measured_has_no_numbers() -> None:
    engine = EngineResult(failure="no such engine")
    assert not engine.measured
    assert engine.median() is None
    assert engine.spread() is None
    assert engine.percentile(99) is None


def test_ratio_is_against_the_faster_peer() -> None:
    found = result(readings(10, 10, 12))
    assert found.best_peer() == "fast"
    assert found.ratio() == pytest.approx(2.0)
    assert found.round_ratios() == pytest.approx([2.0, 2.0, 20 / 12])


def test_a_failed_peer_leaves_the_other() -> None:
    found = result(readings(10), slow=readings(30), fast=EngineResult(failure="gone"))
    assert found.best_peer() == "slow"
    assert found.ratio() == pytest.approx(3.0)


# Verdicts


@pytest.mark.parametrize(
    ("ours", "goal", "verdict", "failed"),
    [
        (readings(10, 10, 10), 1.2, "met", False),
        (readings(20, 20, 20), 1.0, "met", False),
        (readings(19, 19, 19), 1.2, "missed", True),
        (readings(19, 19, 19), None, "no goal", False),
        (EngineResult(failure="x"), 1.2, "not measured", True),
        (EngineResult(failure="x"), None, "not measured", False),
        (replace(readings(1, 1, 1), error=1e-3), 1.2, "wrong", True),
        (replace(readings(1, 1, 1), error_note="y is missing"), None, "wrong", True),
    ],
)
def test_verdict(ours: EngineResult, goal: float | None, verdict: str, failed: bool) -> None:
    found = result(ours, goal)
    assert found.verdict() == verdict
    assert found.failed() is failed


def test_a_goal_without_any_peer_is_not_measured() -> None:
    gone = EngineResult(failure="gone")
    found = result(readings(10), slow=gone, fast=gone)
    assert found.ratio() is None
    assert found.verdict() == "not measured"


def test_a_wide_spread_is_noisy() -> None:
    assert not result(readings(10, 10, 10.9)).noisy()
    assert result(readings(10, 10, 11.1)).noisy()
    assert "met (noisy)" in report.render([result(readings(10, 10, 11.1))])


def test_scale_check() -> None:
    single = result(readings(10))
    batched = replace(CASE, shape=(8, 4))
    flat = CaseResult(batched, {"planck": readings(84)}, None, LIMITS)
    grows = CaseResult(batched, {"planck": readings(85)}, None, LIMITS)
    missing = CaseResult(batched, {"planck": EngineResult(failure="x")}, None, LIMITS)
    assert [growth.verdict() for growth in report.growths([single, flat])] == ["flat"]
    assert [growth.verdict() for growth in report.growths([single, grows])] == ["grows"]
    assert [growth.value() for growth in report.growths([single, missing])] == [None]
    assert models.failures([result(readings(10)), flat], scale=True) == []
    assert len(models.failures([result(readings(10)), grows], scale=True)) == 1


# Tables and records


def test_table_never_shows_zero_for_a_failure() -> None:
    text = report.render([result(EngineResult(failure="No module named 'planck'"))], detail=True)
    assert "toy-1x4-fp32, planck: not measured: No module named 'planck'" in text
    row = next(line for line in text.splitlines() if line.startswith("toy-1x4-fp32 "))
    assert row.split()[:5] == ["toy-1x4-fp32", "2", "none", "not", "measured"]


def test_table_shows_times_ratio_goal_and_verdict() -> None:
    head, *rows = report.render([result(readings(10, 10, 10))]).splitlines()
    names = "case threads cold planck ms slow ms fast ms ratio goal error verdict"
    assert " ".join(head.split()) == names
    assert rows[1].split() == (
        ["toy-1x4-fp32", "2", "none", "10.00", "30.00", "20.00", "2.00", "1.20", "0.0e+00", "met"]
    )


def test_render_of_nothing() -> None:
    assert report.render([]) == "no case matches"


def test_record_has_reasons_instead_of_numbers() -> None:
    record = report.to_json([result(EngineResult(failure="gone"))], {}, {})
    case = json.loads(json.dumps(record, allow_nan=False))["cases"][0]
    assert case["engines"]["planck"] == {"measured": False, "reason": "gone"}
    assert case["ratio"] is None
    assert case["engines"]["fast"]["rounds_ms"] == [[20.0], [20.0], [20.0]]
    assert case["engines"]["fast"]["median_ms"] == 20.0


# Data


def test_cases_and_thresholds_agree() -> None:
    cases, limits = load_cases(), load_thresholds()
    ids = {case.id for case in cases}
    assert len(ids) == len(cases)
    for threads in limits.goals.values():
        for goals in threads.values():
            assert set(goals) <= ids
    assert {case.precision for case in cases} <= set(limits.error)


def test_goals_belong_to_class_and_threads() -> None:
    limits = load_thresholds()
    (case,) = load_cases(only="bert_encoder-1x32-")
    assert limits.goal(case, "avx2") == 1.15
    assert limits.goal(case, "portable") is None
    (alone,) = load_cases(only="bert_encoder-1x32-", threads=1)
    assert limits.goal(alone, "avx2") is None


def test_bad_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.toml"
    path.write_text('[[case]]\nmodel="toy"\nsize="a"\nshape=[1]\ncold="frozen"\n')
    with pytest.raises(ValueError, match="frozen"):
        load_cases(path)
    path.write_text('[[case]]\nmodel="toy"\nsize="a"\nshape=[1]\ncolour="red"\n')
    with pytest.raises(TypeError, match="colour"):
        load_cases(path)


def test_cpu_classes() -> None:
    assert environment.classify({"avx2", "fma", "avx512f", "amx_tile", "amx_bf16"}) == "amx"
    assert environment.classify({"avx2", "fma", "avx512f"}) == "avx512"
    assert environment.classify({"avx2", "fma"}) == "avx2"
    assert environment.classify({"sse2"}) == "portable"


def test_environment_is_recorded() -> None:
    record = environment.record()
    assert {"cpu", "cpu_class", "flags", "caches", "affinity", "load_average"} <= set(record)
    json.dumps(record)


def test_percentile() -> None:
    assert noisy.percentile([3.0, 1.0, 2.0], 0.9) == 3.0
    assert noisy.percentile([float(i) for i in range(100)], 0.9) == 90.0


def test_step_table_groups_equal_steps() -> None:
    plan = SimpleNamespace(steps=[SimpleNamespace(op=op) for op in ("A", "B", "A")])
    trace = [SimpleNamespace(seconds=1e-6, flops=flops) for flops in (1e3, 0.0, 1e3)]
    lines = steps.table(plan, [trace] * 3, 1e9, False)
    assert len(lines) == 3
    assert lines[1].split() == ["A", "2", "1.0", "2.0", "1.0", "1.0"]
    assert lines[2].split() == ["B", "1", "1.0", "1.0"]


def test_relative_error() -> None:
    reference = {"y": np.array([0.0, 4.0])}
    assert relative_error({"y": np.array([1.0, 4.0])}, reference) == 0.25
    with pytest.raises(ValueError, match="missing"):
        relative_error({}, reference)
    with pytest.raises(ValueError, match="shape"):
        relative_error({"y": np.zeros(3)}, reference)
    with pytest.raises(ValueError, match="not finite"):
        relative_error({"y": np.array([np.nan, 4.0])}, reference)


# Processes


def test_rounds_come_back_from_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "REFERENCE", "fake_engines:Steady")
    found = fake("Steady", "Chatty", "Wrong")
    for engine in found.values():
        assert engine.failure is None
        assert [len(seconds) for seconds in engine.rounds] == [2, 2, 2]
        assert engine.settled
    assert found["Steady"].version == "1.0"
    assert found["Steady"].options == {"threads": 2}
    assert found["Chatty"].error == 0.0
    assert found["Wrong"].error == pytest.approx(1 / 6)


def test_failures_are_reasons_and_spare_the_others() -> None:
    found = fake("Unbuildable", "Failing", "Dying", "Steady")
    assert found["Unbuildable"].failure == "RuntimeError: no kernel for Frobnicate"
    assert found["Failing"].failure == "RuntimeError: out of breath"
    assert found["Failing"].rounds == []
    assert "SIGABRT" in (found["Dying"].failure or "")
    assert "illegal thing" in (found["Dying"].failure or "")
    assert found["Steady"].measured


def test_a_hanging_engine_is_given_up() -> None:
    assert fake("Hanging", timeout_s=1.0)["Hanging"].failure == "no answer within 1 s"


def test_unknown_engine_and_missing_model() -> None:
    problem = Problem("unused.onnx", {"x": np.ones(4, np.float32)}, ("y",))
    (unknown,) = models.run_cases([CASE], ["frob"], 1, make_problem=lambda case: problem)
    assert "no engine is named 'frob'" in (unknown.engines["frob"].failure or "")

    def no_model(case: Case) -> Problem:
        raise KeyError(case.model)

    (missing,) = models.run_cases([CASE], ["planck"], 1, make_problem=no_model)
    assert missing.verdict() == "not measured"
    assert missing.engines["planck"].failure == "no model: KeyError: 'toy'"


def test_peers_agree_on_a_real_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    path = tmp_path / "toy.onnx"
    onnx.save(onnx.parser.parse_model(TOY_MODEL), path)
    feeds = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    dims, outputs = models._interface(path, {"x": (3, 4)})
    assert (dims, outputs) == ({"batch": 3}, ("y", "z"))
    problem = Problem(str(path), feeds, outputs, dims)
    (found,) = models.run_cases(
        [replace(CASE, peers=("onnxruntime", "openvino"))],
        ["onnxruntime", "openvino"],
        2,
        make_problem=lambda case: problem,
    )
    assert [engine.failure for engine in found.engines.values()] == [None, None]
    assert (found.engines["openvino"].error or 0.0) < 1e-5
    assert found.verdict() == "not measured"


TOY_MODEL = """
<ir_version: 8, opset_import: ["": 13]>
toy (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
  y = Tanh(x)
  z = Exp(y)
}
"""
