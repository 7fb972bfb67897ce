# Thin lines only: the work is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check conformance faults bench compose-test docs lock clean

help:  ## this list
	@sed -nE 's/^([a-z ,-]+):.*  ## (.*)/  make \1|\2/p' Makefile | column -t -s '|'

setup:  ## install the system packages and .venv for development; asks no questions
	@scripts/setup

demo:  ## Redis, Rails with Sidekiq's Web UI, sidecar, worker, Flower and a mix of jobs; Ctrl-C stops it
	@scripts/setup demo
	@exec .venv/bin/python -m scripts.demo $(ARGS)

test:  ## all tests: Python, sidecar, Rails app
	@scripts/setup test
	@scripts/test $(ARGS)

check: setup  ## format, lint, types, import directions, Ruby syntax
	@scripts/check

conformance:  ## the real Sidekiq versions
faults:  ## fault injection: kills, cuts, outages, garbage, soak; with a report
bench:  ## benchmarks against peers
compose-test:  ## the compose file on a real engine

conformance faults bench compose-test: setup
	@test -x scripts/$@ || { echo "make $@: scripts/$@ does not exist yet" >&2; exit 1; }
	@scripts/$@ $(ARGS)

docs: setup  ## the site of the documents, in build/docs
	@scripts/docs

lock: setup  ## write requirements/*.txt from pyproject.toml
	@scripts/lock $(ARGS)

clean:  ## remove files of builds, tests and demos; .venv stays
	@scripts/clean
