# Skiff's build. `make help` lists the targets.

SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules

# sudo resets PATH, so go may have to be looked for.
export PATH := $(PATH):/usr/sbin:/sbin:$(shell scripts/find-go)

# One set of flags for builds and tests, so that they share the build cache:
# compiling Kubernetes once takes minutes.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: deps ## Build bin/skiff: static, with its helper programs inside
	@scripts/build

.PHONY: payload
payload: deps ## Build the helper programs (runc, shim, CNI, pause) into bin/payload
	@scripts/payload/build

.PHONY: dist
dist: build ## Build the file to release: dist/skiff-linux-ARCH, a launcher with bin/skiff compressed
	@scripts/dist

.PHONY: build-arm64
build-arm64: ## Cross-compile the main program for arm64, without helper programs
	@GOARCH=arm64 PAYLOAD=none scripts/build

.PHONY: deps
deps: ## Install the Debian packages that building and running need, if any is missing
	@scripts/deps

.PHONY: clean
clean: ## Remove what building made
	rm -rf bin dist

##@ Try

.PHONY: up
up: build ## Start a cluster of one node, deploy a sample app and show its answer (root)
	@scripts/up

.PHONY: cluster
cluster: build ## The same with a server and agents: NODES=3 (root)
	@NODES=$${NODES:-3} scripts/up

.PHONY: down
down: ## Stop that cluster and remove everything it made (root)
	@scripts/down

##@ Check

.PHONY: test
test: payload test-unit test-integration ## Run all tests, those that need root or the helper programs too

.PHONY: test-unit
test-unit: ## Run the tests beside the code: no root, no network
	go test -short $$(go list ./... | grep -v -E "/tests/(artifact|cluster|datastore|framework|integration|servers)")

.PHONY: test-race
test-race: ## Run the tests of the packages without Kubernetes under the race detector
	CGO_ENABLED=1 go test -short -race $$(go list -f '{{.ImportPath}} {{join .Deps " "}}' ./cmd/... ./pkg/... | \
		grep -v -e ' k8s.io/' -e ' github.com/containerd/containerd' | cut -d ' ' -f 1)

.PHONY: test-integration
test-integration: build ## Run the tests of the built binary, nodes in namespaces (root)
	@scripts/test-integration

.PHONY: test-vm
test-vm: build ## Boot a Debian machine with systemd in qemu and run the first story in it (root, 10 min or more)
	@scripts/test-vm

.PHONY: bench
bench: build ## Measure Skiff beside stock Kubernetes: SHORT=1 PUBLISH=1 (root, docs/benchmarks.md)
	@scripts/bench

.PHONY: profile
profile: build ## Write profiles of the starting, the idle and the loaded server into bin/profile (root)
	@scripts/profile

.PHONY: conformance
conformance: build ## Run upstream's conformance tests: FOCUS= SKIP= LIST=ci PROCS=4 NODES=2 (root, docs/conformance.md)
	@scripts/conformance

.PHONY: test-conformance
test-conformance: build ## Test that a conformance run fails where DNS or the service proxy is off (root)
	@scripts/test-conformance

.PHONY: flags-docs
flags-docs: ## Write docs/flags.md from the table of settings
	go generate ./pkg/config

.PHONY: lint
lint: ## Check formatting, run go vet, and check the scripts
	@scripts/lint

.PHONY: fmt
fmt: ## Format the Go files
	gofmt -w $$(git ls-files '*.go')
