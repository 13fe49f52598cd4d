"""Exports of inspectors: write other formats, run them without TensorFlow, load them."""

from enum import StrEnum


class Format(StrEnum):
    """Formats for export."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"
    saved_model = "saved-model"


class InputType(StrEnum):
    """Data types of the pixels that an exported inspector takes."""

    float32 = "float32"
    uint8 = "uint8"


class Precision(StrEnum):
    """Number formats that an exported network computes with."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"
