# syntax=docker/dockerfile:1
# Two images from one file: `--target api` serves (no TensorFlow, small), `--target worker` trains.

FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# uv installs what uv.lock names into /opt/leanfuse, the only thing that the final images take from here.
FROM base AS build-api
RUN --mount=type=cache,target=/root/.cache/pip pip install uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=/opt/leanfuse
WORKDIR /source
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --frozen --no-dev --no-install-project
COPY . .
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable --extra openvino

FROM build-api AS build-worker
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable --extra worker

FROM build-api AS build-worker-gpu
RUN --mount=type=cache,target=/root/.cache/uv uv sync --frozen --no-dev --no-editable --extra gpu

FROM base AS runtime
RUN useradd --uid 10001 --create-home --home-dir /var/lib/leanfuse --shell /usr/sbin/nologin leanfuse \
    && install --directory --owner leanfuse --mode 700 /var/lib/leanfuse/store
ENV PATH=/opt/leanfuse/bin:$PATH LEANFUSE_HOME=/var/lib/leanfuse LEANFUSE_LOG_FORMAT=json
WORKDIR /var/lib/leanfuse
USER leanfuse

FROM runtime AS worker-base
# Celery's remote control is off (whoever reaches the broker could end workers), so the doctor tells the health.
HEALTHCHECK --interval=60s --timeout=30s --start-period=30s CMD ["leanfuse", "doctor", "--json"]
STOPSIGNAL SIGTERM
CMD ["celery", "--app", "worker.main", "worker", "--pool", "prefork", "--without-gossip", "--without-mingle"]

FROM worker-base AS worker
COPY --from=build-worker /opt/leanfuse /opt/leanfuse

FROM worker-base AS worker-gpu
COPY --from=build-worker-gpu /opt/leanfuse /opt/leanfuse

FROM runtime AS api
COPY --from=build-api /opt/leanfuse /opt/leanfuse
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["uvicorn", "app.main:create_app", "--factory", "--no-server-header", "--no-access-log", "--host", "0.0.0.0", "--port", "8000", \
    "--timeout-graceful-shutdown", "30", "--timeout-keep-alive", "5", "--limit-concurrency", "512"]
