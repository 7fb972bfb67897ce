# Prometheus from Debian, with the bridge's alert rules.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

RUN apt-get update \
 && apt-get install -y --no-install-recommends prometheus \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app -m 0750 /data

COPY deploy/prometheus/prometheus.yml deploy/prometheus/rules.yml /etc/sidekiq-bridge/
RUN promtool check config /etc/sidekiq-bridge/prometheus.yml

USER 10001:10001
WORKDIR /data
EXPOSE 9090
CMD ["prometheus", "--config.file=/etc/sidekiq-bridge/prometheus.yml", "--storage.tsdb.path=/data", \
     "--storage.tsdb.retention.time=15d", "--web.listen-address=0.0.0.0:9090"]
