"""Logic of the model benchmark; asserts no times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import bounds, environment, forms, models, noisy, report, steps
from bench.cases import PEERS, Case, Goals, Thresholds, load_cases, load_thresholds
from bench.peers import ENGINES, Problem, cosine, make_engine, relative_error
from bench.report import CaseResult, EngineResult

STEADY = "fake_engines:Steady"
CASE = Case("toy", "tiny", (1, 4), cold="none", runs=2, peers=("slow", "fast"), reference=STEADY)
INT8 = replace(CASE, precision="int8", peers=("ort", "ort-static", "ov"), baseline="planck-fp32")
LIMITS = Thresholds(spread=0.1, scale_growth=0.05, error={"fp32": 1e-4})


def readings(*medians_ms: float) -> EngineResult:
    """An engine whose rounds have one run each."""
    return EngineResult(rounds=[[ms / 1e3] for ms in medians_ms], error=0.0)


def result(ours: EngineResult, goal: float | None = 1.2, **changes: EngineResult) -> CaseResult:
    peers = {"slow": readings(30, 30, 30), "fast": readings(20, 20, 20)} | changes
    return CaseResult(
        CASE, {"planck": ours, **peers}, {} if goal is None else {PEERS: goal}, LIMITS
    )


def int8_result(goals: Goals, ours: EngineResult | None = None) -> CaseResult:
    """Planck takes 10 ms; the second form of the first peer is its best."""
    engines = {
        "planck": ours or readings(10),
        "planck-fp32": readings(15),
        "ort": readings(30),
        "ort-static": readings(20),
        "ov": readings(8),
    }
    return CaseResult(INT8, engines, goals, replace(LIMITS, cosine={"int8": 0.99}))


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
    assert found.best() == "fast"
    assert found.ratio() == pytest.approx(2.0)
    assert found.round_ratios() == pytest.approx([2.0, 2.0, 20 / 12])


def test_a_failed_peer_leaves_the_other() -> None:
    found = result(readings(10), slow=readings(30), fast=EngineResult(failure="gone"))
    assert found.best() == "slow"
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
    flat = CaseResult(batched, {"planck": readings(84)}, {}, LIMITS)
    grows = CaseResult(batched, {"planck": readings(85)}, {}, LIMITS)
    missing = CaseResult(batched, {"planck": EngineResult(failure="x")}, {}, LIMITS)
    assert [growth.verdict() for growth in report.growths([single, flat])] == ["flat"]
    assert [growth.verdict() for growth in report.growths([single, grows])] == ["grows"]
    assert [growth.value() for growth in report.growths([single, missing])] == [None]
    assert models.failures([result(readings(10)), flat], scale=True) == []
    assert len(models.failures([result(readings(10)), grows], scale=True)) == 1


# Rivals of int8 cases


def test_rivals_are_judged_by_their_fastest_form() -> None:
    found = int8_result({})
    assert {rival: found.best(rival) for rival in INT8.rivals} == {
        PEERS: "ov",
        "ort": "ort-static",
        "ov": "ov",
        "planck-fp32": "planck-fp32",
    }
    ratios = [found.ratio(rival) for rival in (PEERS, "ort", "ov", "planck-fp32")]
    assert ratios == pytest.approx([0.8, 2.0, 0.8, 1.5])


@pytest.mark.parametrize(
    ("goals", "verdict"),
    [
        ({}, "no goal"),
        ({"ort": 2.0, "planck-fp32": 1.5}, "met"),
        ({"ort": 2.0, "planck-fp32": 1.51}, "missed"),
        ({"ort": 2.1, "planck-fp32": 1.5}, "missed"),
        ({"ort": 2.0, "nobody": 1.0}, "not measured"),
        ({"ov": 0.9, "nobody": 1.0}, "missed"),
    ],
)
def test_every_goal_counts(goals: Goals, verdict: str) -> None:
    found = int8_result(goals)
    assert found.verdict() == verdict
    assert found.failed() is (verdict in ("missed", "not measured"))


def test_int8_is_wrong_by_direction_alone() -> None:
    rounded = replace(readings(10), error=0.2, cosine=0.9901)
    assert int8_result({}, rounded).verdict() == "no goal"
    assert int8_result({}, replace(rounded, cosine=0.98)).verdict() == "wrong"


def test_table_of_rivals() -> None:
    ours = replace(readings(10), cosine=0.999)
    text = report.render([int8_result({"ort": 1.3, "planck-fp32": 1.6}, ours)])
    head, _, row = text.split("\n\n")[1].splitlines()
    names = "case best of peers / peers best of ort / ort / ov / planck-fp32 cosine verdict"
    assert " ".join(head.split()) == names
    cells = "toy-1x4-int8 ov 0.80 ort-static 2.00 of 1.30 0.80 1.50 of 1.60 0.99900 missed"
    assert " ".join(row.split()) == cells
    record = report.to_json([int8_result({"ort": 1.3})], {}, {})["cases"][0]["against"]
    assert record["ort"] == {"best": "ort-static", "ratio": pytest.approx(2.0), "goal": 1.3}


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
    rivals = {case.id: {*case.rivals} for case in cases}
    for threads in limits.goals.values():
        for goals in threads.values():
            assert set(goals) <= ids
            for case, goal in goals.items():
                assert not isinstance(goal, dict) or set(goal) <= rivals[case]
    assert {case.precision for case in cases} <= {*limits.error, *limits.cosine}
    assert {name for case in cases for name in (*case.engines, case.reference)} <= set(ENGINES)


def test_cases_are_chosen_by_parts_of_their_names() -> None:
    names = [case.id for case in load_cases(only="minilm-1x32,ocr_cls")]
    assert names == ["minilm-1x32-fp32", "ocr_cls-6x48x192-fp32"]
    assert load_cases(only="") == load_cases() and load_cases(only="none such") == []


def test_goals_belong_to_class_and_threads() -> None:
    limits = load_thresholds()
    (case,) = load_cases(only="bert_encoder-1x32-fp32")
    assert limits.goals_of(case, ["any", "avx2"]) == {PEERS: 1.25}
    assert limits.goals_of(case, ["any", "portable"]) == {PEERS: 1.0}  # never slower
    (alone,) = load_cases(only="bert_encoder-1x32-fp32", threads=1)
    assert limits.goals_of(alone, ["avx2"]) == {}
    assert limits.goals_of(replace(case, goal=2.0), ["avx2"]) == {PEERS: 2.0}


def test_special_classes_win() -> None:
    goals: dict[str, dict[str, dict[str, float | Goals]]] = {
        "any": {"2": {INT8.id: {"ort": 1.0, "ov": 0.9}}},
        "vnni": {"2": {INT8.id: {"ort": 1.3}}},
    }
    limits = Thresholds(goals=goals)
    assert limits.goals_of(INT8, ["any", "avx512", "vnni"]) == {"ort": 1.3, "ov": 0.9}
    assert limits.goals_of(INT8, ["any", "amx"]) == {"ort": 1.0, "ov": 0.9}


def test_int8_rows_have_forms_and_a_baseline() -> None:
    cases = load_cases(only="int8")
    assert {case.model for case in cases} >= {"bert_encoder", "minilm", "resnet50", "magika"}
    for case in cases:
        assert case.precision == "int8"
        assert case.engines[:2] == ("planck", "planck-fp32")
        assert case.rivals["onnxruntime"] == (
            "onnxruntime",
            "onnxruntime-dynamic",
            "onnxruntime-static",
        )
    assert all(case.baseline is None for case in load_cases() if case.precision != "int8")


def test_bad_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cases.toml"
    path.write_text('[[case]]\nmodel="toy"\nsize="a"\nshape=[1]\ncold="frozen"\n')
    with pytest.raises(ValueError, match="frozen"):
        load_cases(path)
    path.write_text('[[case]]\nmodel="toy"\nsize="a"\nshape=[1]\ndenormals="yes"\n')
    with pytest.raises(ValueError, match="denormals is 'yes'"):
        load_cases(path)
    path.write_text('[[case]]\nmodel="toy"\nsize="a"\nshape=[1]\ncolour="red"\n')
    with pytest.raises(TypeError, match="colour"):
        load_cases(path)


def test_rows_that_flush_are_judged_by_an_engine_that_computes() -> None:
    cases = load_cases()
    flushing = [case for case in cases if case.denormals == "flush"]
    assert flushing == [case for case in cases if case.model.startswith("ocr_")]
    assert {case.reference for case in flushing} == {"onnxruntime-plain"}
    toy = replace(result(readings(10, 10, 10)), case=replace(CASE, denormals="flush"))
    assert report.to_json([toy], {}, {})["cases"][0]["denormals"] == "flush"
    assert "toy-1x4-fp32: the engines take subnormal numbers as zeros" in report.render([toy])


def test_cpu_classes() -> None:
    assert environment.classify({"avx2", "fma", "avx512f", "amx_tile", "amx_bf16"}) == "amx"
    assert environment.classify({"avx2", "fma", "avx512f"}) == "avx512"
    assert environment.classify({"avx2", "fma"}) == "avx2"
    assert environment.classify({"sse2"}) == "portable"


def test_goal_classes() -> None:
    assert environment._classes("amx", {"avx512_vnni"}) == ("any", "amx")
    assert environment._classes("avx512", {"avx512_vnni"}) == ("any", "avx512", "vnni")
    assert environment._classes("avx2", {"avx512_vnni"}) == ("any", "avx2")
    assert environment._classes("avx2", {"avx_vnni"}) == ("any", "avx2", "vnni")
    assert environment.goal_classes()[0] == "any"


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


def test_cosine() -> None:
    reference = {"y": np.array([3.0, 4.0]), "z": np.zeros(2)}
    assert cosine({"y": np.array([6.0, 8.0]), "z": np.zeros(2)}, reference) == pytest.approx(1.0)
    assert cosine({"y": np.array([4.0, -3.0]), "z": np.zeros(2)}, reference) == 0.0
    assert cosine({"y": np.array([3.0, 4.0]), "z": np.ones(2)}, reference) == 0.0
    with pytest.raises(ValueError, match="shape"):
        cosine({"y": np.zeros(3)}, reference)


# Processes


def test_rounds_come_back_from_processes() -> None:
    found = fake("Steady", "Chatty", "Wrong")
    for engine in found.values():
        assert engine.failure is None
        assert [len(seconds) for seconds in engine.rounds] == [2, 2, 2]
        assert engine.settled
    assert found["Steady"].version == "1.0"
    assert found["Steady"].options == {"threads": 2}
    assert found["Chatty"].error == 0.0
    assert found["Wrong"].error == pytest.approx(1 / 6)
    assert found["Steady"].cosine == pytest.approx(1.0)


def test_a_reference_that_is_not_measured_gives_its_answer_alone() -> None:
    found = fake("Wrong")
    assert list(found) == ["Wrong"]
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
        [replace(CASE, peers=("onnxruntime", "openvino"), reference="onnxruntime")],
        ["onnxruntime", "openvino"],
        2,
        make_problem=lambda case: problem,
    )
    assert [engine.failure for engine in found.engines.values()] == [None, None]
    assert (found.engines["openvino"].error or 0.0) < 1e-5
    assert found.verdict() == "not measured"


@pytest.mark.parametrize("denormals", ["compute", "flush"])
def test_engines_flush_what_a_case_says(denormals: str, tmp_path: Path) -> None:
    for name in ("onnx", "onnxruntime", "openvino", "planck"):
        pytest.importorskip(name)
    import onnx

    path = tmp_path / "toy.onnx"
    onnx.save(onnx.parser.parse_model(TINY_MODEL), path)
    feeds = {"x": np.full((64, 4), 1e-25, np.float32)}
    problem = Problem(str(path), feeds, ("y",), {"batch": 64}, denormals=denormals)
    engines = ("planck", "onnxruntime", "openvino")
    case = replace(CASE, peers=engines, reference="onnxruntime-plain", denormals=denormals)
    (found,) = models.run_cases([case], engines, 1, make_problem=lambda case: problem)
    assert {name: engine.failure for name, engine in found.engines.items()} == dict.fromkeys(
        engines
    )
    for engine in found.engines.values():  # 1e-40 everywhere, or nothing of it
        assert engine.error == (1.0 if denormals == "flush" else pytest.approx(0, abs=1e-3))


def test_steps_are_those_of_the_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "planck"):
        pytest.importorskip(name)
    monkeypatch.setattr(models, "CACHE", tmp_path)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    case = Case("bert_encoder", "mini", (1, 4), denormals="flush", threads=1)
    plan, traces, _ = steps.measure(case, 1, False)
    assert (plan.denormals, plan.threads) == ("flush", 1)
    assert len(traces[0]) == len(plan.steps)


@pytest.fixture
def int8_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """The mini encoder with all of its int8 forms."""
    for name in ("onnx", "onnxruntime.quantization", "openvino", "planck"):
        pytest.importorskip(name)
    monkeypatch.setattr(models, "CACHE", tmp_path)
    return models.prepare(MINI)


MINI = Case(
    "bert_encoder",
    "mini",
    (2, 8),
    precision="int8",
    peers=("onnxruntime", "onnxruntime-dynamic", "onnxruntime-static", "openvino"),
    baseline="planck-fp32",
    reference="onnxruntime-plain",
    cold="none",
    runs=1,
)


def test_int8_forms_are_made_and_agree(int8_problem: Problem, tmp_path: Path) -> None:
    import onnx

    assert int8_problem.missing == {}
    kinds = {
        name: {node.op_type for node in onnx.load(path).graph.node}
        for name, path in int8_problem.forms.items()
    }
    assert "QuantizeLinear" not in kinds["float"]
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds["qdq"] & kinds["static"]
    assert "MatMulInteger" in kinds["dynamic"]
    assert int8_problem.path == int8_problem.forms["qdq"]

    (found,) = models.run_cases([MINI], rounds=1, make_problem=lambda case: int8_problem)
    assert {name: engine.failure for name, engine in found.engines.items()} == dict.fromkeys(
        MINI.engines
    )
    for engine in found.engines.values():
        assert (engine.cosine or 0.0) > 0.99
    assert found.engines["planck"].options["precision"] == "int8"
    assert found.engines["planck-fp32"].options["precision"] == "fp32"
    assert found.verdict() == "no goal"
    assert not [*tmp_path.glob("*.partial"), *tmp_path.glob("tmp*")]


def test_a_form_is_made_once_for_its_content(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    planck_models = pytest.importorskip("planck.models")
    source = tmp_path / "bert_encoder-mini-0.onnx"
    planck_models.write("bert_encoder", source, size="mini")
    samples = forms.Samples("bert_encoder", "mini", (1, 8))
    first = Path(forms.written(source, "qdq", samples).path)
    stamp = first.stat().st_mtime_ns
    forms.written.cache_clear()
    assert forms.written(source, "qdq", samples).path == str(first)
    assert first.stat().st_mtime_ns == stamp
    assert forms._key(source, "qdq", replace(samples, shape=(1, 9))) not in first.name
    stale = first.with_name("bert_encoder-mini-qdq-1x8-0123.onnx")
    first.rename(stale)
    forms.written.cache_clear()
    assert forms.written(source, "qdq", samples).path == str(first)
    assert not stale.exists()


def test_a_form_that_fails_is_a_reason(tmp_path: Path) -> None:
    source = tmp_path / "no.onnx"
    source.write_bytes(b"no model")
    found = forms.written(source, "qdq", forms.Samples("bert_encoder", "mini", (1, 8)))
    assert found.path == ""
    assert found.reason.startswith("no qdq form: ")
    problem = Problem("no.onnx", {}, (), missing={"static": found.reason})
    with pytest.raises(RuntimeError, match="no qdq form"):
        make_engine("onnxruntime-static", problem)
    with pytest.raises(RuntimeError, match="has no dynamic form"):
        make_engine("onnxruntime-dynamic", problem)


TOY_MODEL = """
<ir_version: 8, opset_import: ["": 13]>
toy (float[batch, 4] x) => (float[batch, 4] y, float[batch, 4] z) {
  y = Tanh(x)
  z = Exp(y)
}
"""


TINY_MODEL = """
<ir_version: 8, opset_import: ["": 13]>
toy (float[batch, 4] x) => (float[batch, 4] y) <float w = {1e-15}> { y = Mul(x, w) }
"""


# What is left to gain


def test_a_bound_is_the_larger_of_compute_and_traffic() -> None:
    rows = [
        bounds.Bound("a-1", "a", 10.0, 20.0, 4.0, 5.0),
        bounds.Bound("a-2", "a", 10.0, 5.0, 5.0, 1.0),
        bounds.Bound("b-1", "b", 10.0, 40.0, 10.0, 0.0),
    ]
    assert [row.bound_ms for row in rows] == [5.0, 5.0, 10.0]
    assert [row.ratio for row in rows] == [2.0, 0.5, 4.0]
    # A model counts once: a has 1 as the mean of its shapes' ratios, b has 4.
    assert bounds.mean_by_model(rows, "ratio") == pytest.approx(2.0)
    assert bounds.mean_by_model(rows, "most") == pytest.approx(8.0**0.5)
    assert "a-2" in bounds.table(rows)


def test_packed_weights_have_one_axis() -> None:
    shapes = ["f32[4096]", "s8[64]", "f32[B,64]", "f32[1,400,256]"]
    assert [bounds._packed_bytes(shape) for shape in shapes] == [16384, 64, 0, 0]
