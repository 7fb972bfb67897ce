# Redis: Sidekiq's own, with nothing of the bridge in it.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/*

# A new named volume takes over owner and mode of the directory it covers.
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app -m 0750 /data

COPY deploy/docker/redis.conf /usr/local/etc/redis.conf
COPY deploy/redis/users.acl /usr/local/etc/users.acl
COPY deploy/docker/redis-start /usr/local/bin/

USER 10001:10001
WORKDIR /data
CMD ["redis-start"]
