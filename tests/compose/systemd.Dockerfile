# A machine with systemd, for tests/compose/test_systemd.py: the units of deploy/systemd where they say they are.
ARG TAG=local
FROM sidekiq-bridge/worker:${TAG} AS worker

FROM sidekiq-bridge/sidecar:${TAG}
USER root
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 redis-server systemd systemd-sysv \
 && rm -rf /var/lib/apt/lists/*
COPY --from=worker /opt/bridge /opt/bridge
COPY --from=worker /app/bridge /opt/sidekiq-bridge/bridge
RUN ln -s /opt/bridge /opt/sidekiq-bridge/.venv \
 && cp -r /app/sidecar /opt/sidekiq-bridge/ \
 && cp -r /app/rails_app /srv/app \
 && install -d -o app -g app /srv/app/log /srv/app/tmp /srv/app/storage \
 && install -d -m 0700 /etc/sidekiq-bridge \
 && printf 'REDIS_URL=redis://127.0.0.1:6379/0\nSECRET_KEY_BASE=%s\nBRIDGE_DEMO_DB=/srv/app/storage/demo.sqlite3\nDEMO_MAIL_DIR=/srv/app/storage/mails\nRAILS_LOG_TO_STDOUT=1\n' \
      "$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" > /etc/sidekiq-bridge/app.env \
 && printf 'REDIS_URL=redis://127.0.0.1:6379/0\nBRIDGE_QUEUES=critical,default,low\n' > /etc/sidekiq-bridge/worker.env \
 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > /etc/sidekiq-bridge/sidecar-secret \
 && chmod 0600 /etc/sidekiq-bridge/*
COPY deploy/systemd/*.service /etc/systemd/system/
# The test cannot wait for the unit's own times.
RUN install -d /etc/systemd/system/sidekiq-bridge-worker.service.d \
 && printf '[Service]\nWatchdogSec=15\nTimeoutAbortSec=5\n' > /etc/systemd/system/sidekiq-bridge-worker.service.d/test.conf \
 && systemctl enable redis-server sidekiq-bridge-sidecar sidekiq-bridge-worker
STOPSIGNAL SIGRTMIN+3
# As on a machine: what systemd mounts for a unit (its credentials) must reach the unit's own view of the mounts.
CMD ["sh", "-c", "mount --make-rshared / && exec /sbin/init"]
