# make install | clean | demo | check | quick | test | test-full | test-yt-dlp | test-lowest | test-newest.
# All of it lives in .venv; a second run installs nothing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# What is shown of pip's hundreds of lines: downloads of 10 MB and more.
LARGE := /^ *(Downloading|Using cached) .*\([0-9]{2,}\.[0-9] MB\)/
# Hundreds of the tests start processes: their modules are compiled once.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 4 --dist worksteal

.PHONY: help install libraries demo check quick test test-full test-yt-dlp test-lowest test-newest clean
.DELETE_ON_ERROR:

install: $(STAMP)

help:
	@sed -n '1,2s/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kinetics-sounds needs Python 3.11 or newer; say which with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@echo "installing into .venv: some minutes"
	$(PYTHON) -m venv .venv
	@rm -f $@
	@{ $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' && touch $@; } | \
	  sed -u -n -E '$(LARGE)s/^ *//p; s/^(Installing collected packages):.*/\1/p'
	@test -e $@

# torchcodec looks for FFmpeg's libraries in the system; Debian's are installed where that is ours to do (a container).
libraries: $(STAMP)
	@$(BIN)/python -c 'import torchcodec' 2>/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null; }

demo: $(STAMP)
	$(BIN)/ks-demo --out demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kinetics_sounds pipelines train tests benchmarks examples
	$(BIN)/lint-imports

quick: $(STAMP)
	$(PYTEST) -n 2 -m "not slow and not slow_campaign" --hypothesis-profile quick

test: check libraries
	$(PYTEST)

test-full: check libraries
	$(PYTEST) -m "" --hypothesis-profile full
	$(MAKE) test-yt-dlp test-lowest test-newest

test-yt-dlp: $(STAMP)
	$(BIN)/python benchmarks/yt_dlp_versions.py

test-lowest test-newest: libraries
	$(BIN)/python benchmarks/dependency_versions.py $(@:test-%=%)

clean:
	rm -rf .venv build dist *.egg-info
