"""Inspectors in other formats: writing them, running them without TensorFlow, reading them back."""

from enum import StrEnum


class Format(StrEnum):
    """Formats that inspectors are exported to."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"
    saved_model = "saved-model"


class InputType(StrEnum):
    """What an exported inspector is given pixels as."""

    float32 = "float32"
    uint8 = "uint8"


class Precision(StrEnum):
    """Numbers that an exported network counts with."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"
