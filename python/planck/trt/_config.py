"""`IBuilderConfig`: what a build is asked for, and what of it has an effect here."""

from __future__ import annotations

from typing import Any

from planck import _core
from planck.trt._base import Sealed
from planck.trt._enums import (
    BuilderFlag,
    DeviceType,
    EngineCapability,
    HardwareCompatibilityLevel,
    MemoryPoolType,
    ProfilingVerbosity,
)
from planck.trt._logger import refused
from planck.trt._profile import IOptimizationProfile

# Taken without effect, with the reason that the build notes.
WITHOUT_EFFECT: dict[BuilderFlag, str] = {
    BuilderFlag.DIRECT_IO: "inputs and outputs are dense arrays",
    BuilderFlag.VERSION_COMPATIBLE: "plan files say their format's version",
    BuilderFlag.EXCLUDE_LEAN_RUNTIME: "plan files hold no code",
    BuilderFlag.REFIT: "plans are not refitted: planck.build(initializers=) takes other weights",
    BuilderFlag.REFIT_IDENTICAL: "plans are not refitted",
    BuilderFlag.REFIT_INDIVIDUAL: "plans are not refitted",
    BuilderFlag.STRIP_PLAN: "plan files keep their weights",
    BuilderFlag.WEIGHTLESS: "plan files keep their weights",
    BuilderFlag.SPARSE_WEIGHTS: "no kernel is for sparse weights",
    BuilderFlag.WEIGHT_STREAMING: "weights are mapped from the file",
    BuilderFlag.DISABLE_TIMING_CACHE: "kernels are chosen without timing",
    BuilderFlag.EDITABLE_TIMING_CACHE: "kernels are chosen without timing",
    BuilderFlag.ERROR_ON_TIMING_CACHE_MISS: "kernels are chosen without timing",
    BuilderFlag.DISABLE_COMPILATION_CACHE: "nothing is compiled",
    BuilderFlag.DISTRIBUTIVE_INDEPENDENCE: "rows do not depend on the batch in fp32 anyway",
    BuilderFlag.MONITOR_MEMORY: "plan.memory says what a run takes",
    BuilderFlag.REJECT_EMPTY_ALGORITHMS: "there is no algorithm selector",
    BuilderFlag.SAFETY_SCOPE: "there is no safety runtime",
    BuilderFlag.STRICT_NANS: "NaNs are kept anyway",
    BuilderFlag.DEBUG: "nothing has to be waited for",
}
# Permissions for which the CPU has no kernels.
WITHOUT_KERNELS = (
    BuilderFlag.FP16,
    BuilderFlag.BF16,
    BuilderFlag.FP8,
    BuilderFlag.INT4,
    BuilderFlag.FP4,
)


class ITimingCache:
    """Bytes that are kept; kernels are chosen without timing."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = bytes(data)

    def serialize(self) -> bytes:
        """The bytes that it was made of."""
        return self._data

    def combine(self, input_cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Takes over another one's bytes where it has none."""
        self._data = self._data or input_cache._data
        return True

    def reset(self) -> bool:
        """Forgets the bytes."""
        self._data = b""
        return True


class IBuilderConfig(Sealed):
    """Flags, limits, profiles and the calibrator of a build.

    >>> config = IBuilderConfig()
    >>> config.set_flag(BuilderFlag.INT8)
    >>> config.get_flag(BuilderFlag.INT8), config.get_flag(BuilderFlag.TF32)
    (True, True)
    """

    def __init__(self) -> None:
        self.flags = 1 << BuilderFlag.TF32
        self.quantization_flags = 0
        self.int8_calibrator: Any = None
        self.progress_monitor: Any = None
        self.profile_stream = 0
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.max_aux_streams = 0
        self.avg_timing_iterations = 1
        self.min_timing_iterations = 1
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE
        self.engine_capability = EngineCapability.STANDARD
        self.default_device_type = DeviceType.GPU
        self.plugins_to_serialize: list[str] = []
        self._level = 3
        self._sources = 0
        self._pools: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._calibration_profile: IOptimizationProfile | None = None
        self._timing_cache: ITimingCache | None = None
        self._previews: dict[int, bool] = {}
        self._sealed = True

    def set_flag(self, flag: BuilderFlag) -> None:
        """Sets a flag. Errors: UnsupportedError for GPU_FALLBACK, which is for DLA."""
        if flag == BuilderFlag.GPU_FALLBACK:
            raise refused(
                "GPU_FALLBACK is for DLA, which is not there",
                'planck.build(fallback="reference") runs ops without a kernel',
            )
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        """Clears a flag."""
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: BuilderFlag) -> bool:
        """Whether a flag is set; TF32 is from the start."""
        return bool(self.flags >> int(flag) & 1)

    def set_quantization_flag(self, flag: int) -> None:
        """Sets a flag; statistics are always taken before fusions."""
        self.quantization_flags |= 1 << int(flag)

    def clear_quantization_flag(self, flag: int) -> None:
        """Clears a flag."""
        self.quantization_flags &= ~(1 << int(flag))

    def get_quantization_flag(self, flag: int) -> bool:
        """Whether a flag is set."""
        return bool(self.quantization_flags >> int(flag) & 1)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        """Keeps a limit; `planck.Limits` bounds what a run takes."""
        self._pools[MemoryPoolType(pool)] = int(pool_size)

    def get_memory_pool_limit(self, pool: MemoryPoolType) -> int:
        """The limit that was set, 0 where none was."""
        return self._pools.get(MemoryPoolType(pool), 0)

    @property
    def max_workspace_size(self) -> int:
        """The workspace's limit under its older name."""
        return self.get_memory_pool_limit(MemoryPoolType.WORKSPACE)

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self.set_memory_pool_limit(MemoryPoolType.WORKSPACE, size)

    @property
    def builder_optimization_level(self) -> int:
        """0 to 5; kept, as kernels are chosen without timing."""
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        if not 0 <= level <= 5:
            raise _core.UsageError(f"builder_optimization_level is {level}; expected 0 to 5")
        self._level = level

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Adds a profile and gives its index. Errors: UsageError for an empty one."""
        if not profile:
            raise _core.UsageError("the optimization profile has no shapes")
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles there are."""
        return len(self._profiles)

    def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
        """Sets the profile whose opt shapes calibration batches have."""
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> IOptimizationProfile | None:
        """The calibration profile, else profile 0."""
        return self._calibration_profile or (self._profiles[0] if self._profiles else None)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        """A cache that keeps the bytes."""
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Keeps a cache."""
        self._timing_cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        """The cache that was set."""
        return self._timing_cache

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        """Keeps the sources; all kernels are Planck's."""
        self._sources = int(tactic_sources)
        return True

    def get_tactic_sources(self) -> int:
        """The sources that were set."""
        return self._sources

    def set_preview_feature(self, feature: int, enable: bool) -> None:
        """Keeps a switch."""
        self._previews[int(feature)] = bool(enable)

    def get_preview_feature(self, feature: int) -> bool:
        """What was set."""
        return self._previews.get(int(feature), False)

    @property
    def DLA_core(self) -> int:  # noqa: N802 - TensorRT's name
        """-1: there is no DLA."""
        return -1

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:  # noqa: N802
        if core >= 0:
            raise refused("there is no DLA", "leave DLA_core unset: the engine runs on the CPU")

    def can_run_on_DLA(self, layer: Any) -> bool:  # noqa: N802
        """False."""
        return False

    def set_device_type(self, layer: Any, device_type: DeviceType) -> None:
        """Errors: UnsupportedError for DLA."""
        if device_type == DeviceType.DLA:
            raise refused("there is no DLA", "leave the device type as it is")

    def get_device_type(self, layer: Any) -> DeviceType:
        """GPU, which here means the device that runs the engine."""
        return DeviceType.GPU

    def reset(self) -> None:
        """All as in a new configuration."""
        self.__init__()  # type: ignore[misc]

    @property
    def algorithm_selector(self) -> Any:
        """None: there is no algorithm selector."""
        return None

    @algorithm_selector.setter
    def algorithm_selector(self, value: Any) -> None:
        if value is not None:
            raise refused("there is no algorithm selector", "PLANCK_FORCE_KERNEL chooses a kernel")
