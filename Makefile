# Everything is built without cgo: the binaries run on any Linux, and in the overlay roots of the lab's nodes.
export CGO_ENABLED := 0
GO ?= go
PLUGINS := ./plugin/route ./plugin/veth-to-host ./plugin/routed-eni ./plugin/ipamd
BIN := bin
ARTIFACTS := _artifacts
# What the chained plugins claim beyond their profile.
E2E_FLAGS = $(if $(findstring routed-eni,$(c)),,--features SecondInterface,Chaining)
CONFLISTS := $(wildcard plugin/*/net.d/*.conflist)
# Of the conflist $(c): where its report goes, and the profile that its plugin must pass.
report = $(word 2,$(subst /, ,$(c)))/$(basename $(notdir $(c)))
profile = $(if $(findstring plugin/route/,$(c)),,--profile kubernetes)
# Requirements and sweeps do not depend on the addresses: they are asked on the conflists of the newest version, scenarios on all.
depth = $(if $(findstring 1.1.0,$(c))$(findstring routed-eni,$(c)),,--label-filter '!contract')

.PHONY: help build test test-netns e2e bench-ipamd test-amazon flake soak lint verify fmt generate clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build cnitest, the reference plugins and the upstream plugins into bin/
	@echo "building cnitest and plugins into $(BIN)/ (the first time takes a minute or two)"
	$(GO) build -trimpath -o $(BIN)/ ./e2e/cmd/cnitest $(PLUGINS)
	$(GO) build -trimpath -o $(BIN)/ tool

e2e: build ## Run the suite on the reference plugins in network namespaces, and print a verdict for each conflist
	@status=0; $(foreach c,$(CONFLISTS),$(BIN)/cnitest run $(c) --bin-dir $(BIN) --report-dir $(ARTIFACTS)/$(report) $(E2E_FLAGS) $(profile) $(depth) || status=$$?; echo;) exit $$status

test: ## Run every test of the repository (what needs root says so and skips without it)
	$(GO) test -timeout 20m ./...

test-netns: ## Run the tests of the lab and the suite alone; they need root
	$(GO) test -timeout 20m ./e2e/... ./plugin/...

bench-ipamd: ## Compare ipamd's datastore with that of amazon-vpc-cni-k8s
	cd plugin/ipamd/bench && $(GO) test -run xxx -bench . -benchtime 300ms

test-amazon: ## Let amazon's own plugin attach pods with ipamd; needs root, and its module from the network
	cd plugin/ipamd/amazon && $(GO) test -count=1 ./...

flake: build ## Run scenarios and requirements 20 times: the same ids with the same results each time
	$(BIN)/cnitest run plugin/route/net.d/01-default-1.1.0.conflist --bin-dir $(BIN) --quick --repeat 20

soak: build ## Let 200 pods come and go for a minute on a cloud's two nodes: every address unique at every instant
	$(BIN)/cnitest run plugin/routed-eni/net.d/10-routed-eni.conflist --target plugin/routed-eni/testdata/large-cloud.target.yaml --bin-dir $(BIN) --soak 60s --soak-pods 200

lint: ## Run golangci-lint, which must be installed
	golangci-lint run ./...

verify: ## Check formatting, generated tables and import rules
	@unformatted=$$(gofmt -l e2e plugin scenarios); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	@$(GO) test ./e2e/cmd/cnitest -run 'TestGenerated|TestImports' -count=1

generate: ## Write the generated tables into the READMEs
	@$(GO) test ./e2e/cmd/cnitest -run TestGenerated -update

clean: ## Remove what was built and reported
	rm -rf $(BIN) $(ARTIFACTS)
