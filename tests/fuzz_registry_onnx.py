"""The reader of exported lifters for the fuzzer."""
from small_onnx import small_lifter

from humanbody.models.onnx_files import read_meta, read_model


def read(path):
    model = read_model(path)
    return read_meta(model, str(path))


READERS = {"onnx lifter": (small_lifter, read)}
