# The runtime: inspects with exported inspectors (OpenVINO) and serves them over HTTP. It has no TensorFlow and trains
# nothing. Build and run:
#
#   docker build --tag metricad .
#   docker run --rm -v "$PWD/part:/part:ro" -v "$PWD/line:/line:ro" metricad inspect /part /line
#   docker run --rm -v "$PWD/part:/part:ro" -v "$PWD/token:/token:ro" -p 8000:8000 metricad serve /part --host 0.0.0.0 --token-file /token
#
# `make package` installs the same packages without Docker, inspects with them and prints how large they are.

FROM python:3.12-slim AS packages
COPY pyproject.toml README.md LICENSE /source/
COPY metricad /source/metricad
COPY data_prep /source/data_prep
COPY scripts/install_runtime.sh /source/scripts/
RUN /source/scripts/install_runtime.sh python /packages

FROM python:3.12-slim
RUN useradd --create-home metricad
COPY --from=packages /packages /packages
ENV PYTHONPATH=/packages PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
USER metricad
WORKDIR /home/metricad
EXPOSE 8000
ENTRYPOINT ["python", "-m", "metricad"]
CMD ["--help"]
