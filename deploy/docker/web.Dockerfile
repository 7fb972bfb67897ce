# The Rails app with Sidekiq's Web UI. Rails, Sidekiq and Puma are Debian's, so no gem is downloaded; an app with
# a Gemfile.lock runs `bundle install` here instead.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# The same step as in sidecar.Dockerfile, so that both images share the layer.
RUN apt-get update \
 && apt-get install -y --no-install-recommends puma ruby ruby-rails ruby-sidekiq ruby-sinatra ruby-sqlite3 \
 && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 app \
 && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app \
 && install -d -o app -g app -m 0750 /data
COPY deploy/docker/probe.rb /usr/local/bin/probe
COPY rails_app /app/rails_app

ENV RAILS_ENV=production RAILS_LOG_TO_STDOUT=1 PUMA_BIND=tcp://0.0.0.0:3000
USER 10001:10001
WORKDIR /app/rails_app
EXPOSE 3000
CMD ["puma", "-C", "config/puma.rb", "config.ru"]
