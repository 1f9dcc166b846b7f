# syntax=docker/dockerfile:1.7
# One image for everything: both worker groups, the topic creator, the trainer and generator of the demo, the MLflow server.
#
#   docker build -t trading-ml-inference:0.1.0 .
#   docker run --rm trading-ml-inference:0.1.0 --help

# ---- build: dependencies from uv.lock (hashes checked), then the project as a wheel ----------------------------------
FROM python:3.11.14-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    UV_PROJECT_ENVIRONMENT=/opt/trading-ml
WORKDIR /src

# Only the two files that name dependencies: this layer is rebuilt when they change, not when the code does.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-dev --no-install-project --extra gcp --extra vertex --extra onnx

COPY README.md CHANGELOG.md LICENSE ./
COPY config config
COPY models models
COPY monitoring monitoring
COPY streams streams
# The build backend is not in uv.lock, so its version is said here.
RUN --mount=type=cache,target=/root/.cache/uv \
    echo 'hatchling==1.33.0' > /tmp/build-constraints.txt \
    && uv build --wheel --build-constraints /tmp/build-constraints.txt --out-dir /dist \
    && uv pip install --python /opt/trading-ml --no-deps /dist/*.whl

# ---- runtime: no compiler, no uv, no source --------------------------------------------------------------------------
FROM python:3.11.14-slim-bookworm AS runtime
# LightGBM's wheel links the system's OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    # A number, because `runAsNonRoot` cannot check a name. The folders are the user's own, so fresh volumes on them are too.
    && groupadd --gid 10001 trading-ml \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/trading-ml --shell /usr/sbin/nologin trading-ml \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/trading-ml /var/lib/trading-ml-models

COPY --from=build /opt/trading-ml /opt/trading-ml
# YAML only: a ConfigMap mounted on /app/config would hide a Python package of the same name, so no source sits in /app.
COPY config/*.yaml /app/config/

# The root file system may be read-only: whatever is written goes to /tmp or to the state folder.
ENV PATH=/opt/trading-ml/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CONFIG_PATH=/app/config/local.yaml \
    TRADING_ML__STORAGE__STATE_DIR=/var/lib/trading-ml/state \
    TRADING_ML__WEB__HOST=0.0.0.0 \
    MPLCONFIGDIR=/tmp/matplotlib \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true

WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["trading-ml"]
CMD ["--help"]
