# The worker. Its native tasks come along; where yours are elsewhere, copy them and set BRIDGE_IMPORTS.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*

FROM python AS packages
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
# PIP_INDEX_URL is for networks that reach PyPI through a mirror; the hashes hold there as well.
ARG PIP_INDEX_URL
COPY requirements/runtime.txt /tmp/
RUN python3 -m venv /opt/bridge \
 && /opt/bridge/bin/pip install --disable-pip-version-check --no-cache-dir --require-hashes -r /tmp/runtime.txt

FROM python
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app -m 0750 /data
COPY --from=packages /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY celeryconfig.py ./
COPY bridge bridge
# The root file system is read-only later: what is not compiled now is compiled at every start.
RUN python3 -m compileall -q bridge

RUN install -d -o app -g app -m 0750 /run/bridge
COPY deploy/docker/probe.py /usr/local/bin/probe
COPY rails_app/python tasks
RUN python3 -m compileall -q tasks
ENV PYTHONPATH=/app/tasks BRIDGE_SIDECAR_URL=unix:///run/bridge/sidecar.sock
USER 10001:10001
# Two processes of 10 slots. Health and metrics are on the port of BRIDGE_HEALTH_BIND and on the next one.
CMD ["python3", "-m", "bridge", "up", "--workers", "2", "--", "-c", "10"]
