# The sidecar with the Rails app that it boots.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# The same step as in web.Dockerfile, so that both images share the layer.
RUN apt-get update \
 && apt-get install -y --no-install-recommends puma ruby ruby-rails ruby-sidekiq ruby-sinatra ruby-sqlite3 \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app -m 0750 /data
COPY deploy/docker/probe.rb /usr/local/bin/probe
COPY rails_app /app/rails_app

# A volume mounted here gets this owner and mode: who is not in the group cannot reach the sockets.
RUN install -d -o app -g app -m 0750 /run/bridge
COPY sidecar /app/sidecar

ENV RAILS_ENV=production RAILS_LOG_TO_STDOUT=1 BRIDGE_SIDECAR_BIND=unix:///run/bridge/sidecar.sock
USER 10001:10001
WORKDIR /app
CMD ["sidecar/bin/sidecar", "--require", "/app/rails_app"]
