# Each target is one line here; what needs more than a line is a script in scripts/.
.DEFAULT_GOAL := help
.PHONY: help demo clean-demo test check bench soak failover build install

PREFIX ?= /usr/local

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run the spec's example end to end on Docker, from nothing but Rust
	@scripts/demo

clean-demo: ## Take away what an interrupted demo left behind
	@scripts/demo clean

test: ## Run everything that must pass
	@scripts/test

check: ## Format and lint only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings

bench: ## Measure against Docker, Compose and Swarm, side by side
	cargo run --release -p chassis-bench

soak: ## Let everything go wrong for SOAK_MINUTES (60) on a hundred instances, and count what is left
	SOAK_MINUTES=$${SOAK_MINUTES:-60} cargo test --release -p chassis-cli --test soak

failover: ## Kill and freeze the server that acts, 100 times under load, and check the history; the database away for a minute
	FAILOVER_ROUNDS=$${FAILOVER_ROUNDS:-100} cargo test --release -p chassis-cli --test failover
	OUTAGE_SECONDS=60 cargo test --release -p chassis-cli --test servers -- without_the_database

build: ## Build the release binary
	cargo build --release -p chassis-cli --bin chassis

install: build ## Install the binary and the systemd unit (PREFIX=/usr/local)
	@scripts/install "$(DESTDIR)" "$(PREFIX)"
