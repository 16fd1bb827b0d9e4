# Each target does its own set-up: missing system packages, then the build.
.PHONY: help setup install-deps build demo test test-report soak lint bench replay release image-root test-airflow test-airflow-import clean-demo

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup install-deps: ## install the system packages that are missing
	@scripts/setup.sh

build: setup ## build the program (target/debug/twotower: optimised, quick to build)
	cargo build

demo: build ## a week of synthetic logs, two daily runs, recommendations for one user
	scripts/demo.sh

test: lint ## everything that CI checks: lint, then every test
	cargo test --workspace

test-report: build ## the demo's reports in headless Chromium: light, dark, phone, paper; screenshots in target/report
	scripts/test-report.sh

soak: setup ## what takes an hour: many more schedules, races, faults and damaged files, a kill at every change of the store
	TWOTOWER_SEEDS=50000 cargo test --lib simulation -- --nocapture
	TWOTOWER_KILLS=all cargo test --test kills -- --nocapture
	TWOTOWER_DAMAGE=50000 cargo test --lib damaged -- --nocapture
	TWOTOWER_ROUNDS=25 cargo test --test races -- --nocapture
	TWOTOWER_FAULTS=50 cargo test --test faults -- --include-ignored --nocapture
	cargo test --test backfill -- --ignored --nocapture

lint: setup ## format, clippy with warnings denied, docs
	scripts/lint.sh

bench: setup ## speed of the parts
	scripts/bench.sh

replay: build ## thirty generated days, each from its parent and from nothing: recall and time of both
	scripts/replay.sh

release: setup ## an optimised program that runs from any folder: target/release/twotower
	cargo build --release

image-root: ## the Dockerfile's steps without a container engine, into target/image (PROFILE=dev builds faster; needs root)
	rm -rf target/image
	scripts/image.sh root target/image $(or $(PROFILE),release)

test-airflow: build ## jobs/airflow in a real Airflow 3: two dates, a backfill of three, minutes
	scripts/test-airflow.sh

test-airflow-import: ## jobs/airflow in a real Airflow 3: the DAGs import and judge exit codes rightly, seconds after the install
	scripts/test-airflow.sh import

clean-demo: ## remove what the demo wrote
	rm -rf demo
