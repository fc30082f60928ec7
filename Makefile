# make install | demo | test | check | test-yt-dlp. Everything lives in .venv; a second run installs nothing again.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install libraries demo test check test-yt-dlp clean
.DELETE_ON_ERROR:

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kinetics-sounds needs Python 3.11 or newer; say which with: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# torchcodec looks for FFmpeg's libraries in the system; Debian's are installed where that is ours to do (a container).
libraries: $(STAMP)
	@$(BIN)/python -c 'import torchcodec' 2>/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends ffmpeg >/dev/null; }

demo: $(STAMP)
	$(BIN)/ks-demo --out demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy kinetics_sounds pipelines train tests benchmarks
	$(BIN)/lint-imports

# Hundreds of the tests start processes: their modules are compiled once.
test: check libraries
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n 3 --dist worksteal

test-yt-dlp: $(STAMP)
	$(BIN)/python benchmarks/yt_dlp_versions.py

clean:
	rm -rf .venv build dist *.egg-info
