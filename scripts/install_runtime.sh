#!/bin/sh
# Install what an exported inspector needs into a folder: metricad without TensorFlow, OpenVINO, and the service.
#
#   scripts/install_runtime.sh PYTHON FOLDER
#
# Leaves out tests and example images of libraries, and those parts of OpenVINO that are not for the CPU or read other
# models.
set -eu
python=$1 folder=$2
source=$(cd "$(dirname "$0")/.." && pwd)
install="$python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile --target $folder"
$install --no-deps "$source"
$install numpy scikit-image pillow tifffile typer rich portalocker lazy-loader openvino \
  fastapi uvicorn prometheus-client
find "$folder" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
rm -rf "$folder"/openvino/libs/*intel_gpu_plugin* "$folder"/openvino/libs/*intel_npu* "$folder"/openvino/libs/cache.json
for frontend in jax gguf paddle tensorflow tensorflow_lite pytorch onnx; do
  rm -f "$folder"/openvino/libs/libopenvino_${frontend}_frontend*
done
rm -rf "$folder"/openvino/include "$folder"/skimage/data/*.png "$folder"/skimage/data/*.jpg "$folder"/skimage/data/*.tif
