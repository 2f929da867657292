# make demo   the main job on a made kitchen, with the built-in model: answers on the terminal, a picture in .demo/
# make test   every test that is fast (CI runs this)
# make help   the rest
SHELL := /bin/bash
.DEFAULT_GOAL := help
GO ?= go
BIN := bin/stllm
# Fast DDS (ROS 2) is linked where its headers are; without them the binary speaks ROS 1 and replays bags, and says so.
TAGS := $(shell test -f /usr/include/fastdds/dds/domain/DomainParticipant.hpp && echo fastdds)
GOBUILD := $(GO) build -tags '$(TAGS)'
export CGO_ENABLED := 1

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: ## bin/stllm
	@mkdir -p bin
	$(GOBUILD) -o $(BIN) ./node/cmd/stllm

.PHONY: setup
setup: build ## fetch the ONNX Runtime library (once; checksum verified; found again offline)
	@./$(BIN) setup

.PHONY: llm
llm: build ## fetch SmolLM2-135M-Instruct and llama.cpp (104 MB); tests and `stllm bench decode` compare the two
	@./$(BIN) setup --llm

.PHONY: demo
demo: setup ## make a kitchen, replay it, ask, show the answers and the picture
	@./$(BIN) demo --out .demo

.PHONY: test
test: setup packages ## unit, golden, fuzz seeds, integration with real ROS peers
	$(GO) vet -tags '$(TAGS)' ./...
	$(GO) test -tags '$(TAGS)' -timeout 20m ./...

.PHONY: test-long
test-long: setup packages ## the tests that take minutes
	STLLM_LONG=1 $(GO) test -tags '$(TAGS)' -timeout 120m ./...

.PHONY: packages
packages: ## system packages that tests use as peers (apt-get; what cannot be installed is named and its tests skip)
	@.ci/packages test

.PHONY: peers
peers: ## foreign ROS 2 peers for the tests: Fast DDS, CycloneDDS (C and Python), RustDDS, tshark (once; minutes)
	@.ci/packages peers
	@.ci/peers

.PHONY: test-peers
test-peers: setup packages peers ## the tests against foreign ROS 2 stacks alone
	$(GO) test -tags '$(TAGS)' -timeout 20m ./node/transport/ros2/... ./node/cmd/stllm

.PHONY: bench
bench: setup ## benchmarks, with ratios against named peers where they are installed
	$(GO) test -tags '$(TAGS)' -run '^$$' -bench . -benchtime 1s ./...

.PHONY: gpu-pack
gpu-pack: ## what gpu-check needs on a machine without a network, in pieces of at most 40 MiB (.gpu/pieces)
	@.ci/gpu pack

.PHONY: gpu-check
gpu-check: ## every check that wants an NVIDIA GPU, without a network; says what passed and what is missing
	@.ci/gpu check

.PHONY: lint
lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l bags calibration launch msgs node)" || { gofmt -l bags calibration launch msgs node; exit 1; }
	$(GO) vet -tags '$(TAGS)' ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 -checks 'inherit,-ST1005' -tags '$(TAGS)' ./...

.PHONY: clean
clean: ## remove what make built
	rm -rf bin .demo
