"""Builds an INT8 engine from an ONNX model with a calibration cache, and runs it (TensorRT 8)."""

import os
import sys

import numpy as np
import tensorrt as trt

TRT_LOGGER = trt.Logger(trt.Logger.WARNING)
EXPLICIT_BATCH = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


class EntropyCalibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, samples, cache_file, batch_size=8):
        trt.IInt8EntropyCalibrator2.__init__(self)
        self.cache_file = cache_file
        self.batch_size = batch_size
        self.samples = samples
        self.current_index = 0
        self.host_input = np.zeros((batch_size, *samples.shape[1:]), dtype=np.float32)

    def get_batch_size(self):
        return self.batch_size

    def get_batch(self, names):
        if self.current_index + self.batch_size > self.samples.shape[0]:
            return None
        batch = self.samples[self.current_index : self.current_index + self.batch_size]
        np.copyto(self.host_input, batch)
        self.current_index += self.batch_size
        return [int(self.host_input.ctypes.data)]

    def read_calibration_cache(self):
        # If there is a cache, use it instead of calibrating again.
        if os.path.exists(self.cache_file):
            with open(self.cache_file, "rb") as f:
                return f.read()

    def write_calibration_cache(self, cache):
        with open(self.cache_file, "wb") as f:
            f.write(cache)


def build_engine(onnx_file, engine_file, calibrator, batch_size=8):
    builder = trt.Builder(TRT_LOGGER)
    network = builder.create_network(EXPLICIT_BATCH)
    parser = trt.OnnxParser(network, TRT_LOGGER)
    with open(onnx_file, "rb") as model:
        if not parser.parse(model.read()):
            for error in range(parser.num_errors):
                print(parser.get_error(error))
            return None

    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    if builder.platform_has_fast_int8:
        config.set_flag(trt.BuilderFlag.INT8)
        config.int8_calibrator = calibrator

    profile = builder.create_optimization_profile()
    input_tensor = network.get_input(0)
    shape = tuple(input_tensor.shape)[1:]
    profile.set_shape(input_tensor.name, (1, *shape), (batch_size, *shape), (32, *shape))
    config.add_optimization_profile(profile)
    config.set_calibration_profile(profile)

    serialized_engine = builder.build_serialized_network(network, config)
    if serialized_engine is None:
        return None
    with open(engine_file, "wb") as f:
        f.write(serialized_engine)
    return engine_file


def infer(engine_file, images):
    runtime = trt.Runtime(TRT_LOGGER)
    with open(engine_file, "rb") as f:
        engine = runtime.deserialize_cuda_engine(f.read())
    context = engine.create_execution_context()
    context.set_binding_shape(0, images.shape)
    assert context.all_binding_shapes_specified

    host, bindings = [], []
    for binding in engine:
        index = engine.get_binding_index(binding)
        size = trt.volume(context.get_binding_shape(index))
        dtype = trt.nptype(engine.get_binding_dtype(binding))
        host.append(np.empty(size, dtype))
        bindings.append(int(host[-1].ctypes.data))
        if engine.binding_is_input(binding):
            np.copyto(host[-1], images.ravel())
    context.execute_v2(bindings)
    return [
        buffer.reshape(context.get_binding_shape(i))
        for i, buffer in enumerate(host)
        if not engine.binding_is_input(i)
    ]


def main(folder):
    samples = np.load(os.path.join(folder, "samples.npy"))
    calibrator = EntropyCalibrator(samples, os.path.join(folder, "calibration.cache"))
    engine_file = build_engine(
        os.path.join(folder, "model.onnx"), os.path.join(folder, "model.engine"), calibrator
    )
    assert engine_file is not None
    [output] = infer(engine_file, samples[:4])
    np.save(os.path.join(folder, "output.npy"), output)


if __name__ == "__main__":
    main(sys.argv[1])
