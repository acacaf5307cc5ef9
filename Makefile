# Everything is built without cgo, so that the binaries run on any Linux and in the overlay roots of the lab's nodes.
export CGO_ENABLED := 0
GO ?= go
PLUGINS := ./plugin/route ./plugin/veth-to-host ./plugin/routed-eni ./plugin/ipamd
BIN := bin
ARTIFACTS := _artifacts
# The modules of the repository, each with its go.mod.
MODULES := . .ci/lint .ci/release .ci/vuln cri cri/1.7 kind/node-image kind/upstream plugin/ipamd/amazon plugin/ipamd/bench
# Features that the reference plugins claim beyond their profiles.
comma := ,
E2E_FLAGS = $(if $(findstring routed-eni,$(c)),--features SecondInterface$(comma)$(ISOLATION),--features SecondInterface,Chaining$(if $(findstring veth-to-host,$(c)),$(comma)NodeIsolation))
ISOLATION := NodeIsolation,AddressIsolation,MACIsolation,VLANIsolation
CONFLISTS := $(wildcard plugin/*/net.d/*.conflist)
# For the conflist $(c): the directory of its report, and the profile that its plugin must pass.
report = $(word 2,$(subst /, ,$(c)))/$(basename $(notdir $(c)))
profile = $(if $(findstring plugin/route/,$(c)),,--profile kubernetes)
# Conflists of the reference plugins on nodes to which something happens.
PRODUCTION := plugin/route/net.d/01-default-1.1.0.conflist plugin/veth-to-host/net.d/11-cnichain-1.1.0.conflist plugin/routed-eni/net.d/10-routed-eni.conflist
# Conflists of plugins of other projects, each with its expectation file beside it.
THIRDPARTY := $(wildcard e2e/thirdparty/net.d/*.conflist)
expected = $(c:.conflist=.expected.yaml)
# The published reports, and the arguments of cnitest run for each.
REPORTS := bridge macvlan macvlan-route macvlan-veth-to-host ptp routed-eni
thirdparty = e2e/thirdparty/net.d/$(1).conflist --expect e2e/thirdparty/net.d/$(1).expected.yaml
run_bridge = $(call thirdparty,bridge)
run_macvlan = $(call thirdparty,macvlan)
run_ptp = $(call thirdparty,ptp)
run_macvlan-route = plugin/route/net.d/01-default-1.1.0.conflist --features SecondInterface,Chaining
run_macvlan-veth-to-host = plugin/veth-to-host/net.d/11-cnichain-1.1.0.conflist --profile kubernetes --features SecondInterface,Chaining
run_routed-eni = plugin/routed-eni/net.d/10-routed-eni.conflist --profile kubernetes
# With a container runtime the requirements, which upstream's plugins fail, are not asked.
cri_bridge = e2e/thirdparty/net.d/bridge.conflist --profile cni
cri_macvlan = e2e/thirdparty/net.d/macvlan.conflist --expect cri/macvlan.expected.yaml --scenario host-to-pod
cri_ptp = e2e/thirdparty/net.d/ptp.conflist --profile cni
published = e2e/reports/$(r)
# Further arguments of cnitest bench for the published benchmarks, whose conflists are in e2e/bench/net.d.
# A bridge of Linux has 1,023 ports at most (BR_MAX_PORTS of net/bridge/br_private.h).
bench_bridge = --attachments 10,100,1000
bench_macvlan-veth-to-host = --profile kubernetes
bench_routed-eni = --profile kubernetes
BENCH_TIME ?= 300s
# The name of a release: cnitest says it of itself, packages have it, and so have reports about the plugins here.
# Without it there is no release, and the names of packages come from git.
VERSION ?=
stamp = $(if $(VERSION),-ldflags '-X main.stamp=$(VERSION)')
own_version = $(if $(and $(VERSION),$(findstring plugin/,$(run_$(r)))),--implementation-version $(VERSION))
package_version = $(or $(VERSION),$(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased))
ARCHITECTURES := amd64 arm64
# The time of all files in packages: that of the commit, so that everybody gets the same bytes.
RELEASE_TIME ?= $(shell git show -s --format=%ct 2>/dev/null || echo 0)
DIST := dist
# The seventh of what is broken on purpose that make test runs today, by the day of the week.
today = $(shell date +%u)/7
# Requirements and sweeps do not depend on addresses: they run only on conflists of the newest version, scenarios on
# all.
depth = $(if $(findstring 1.1.0,$(c))$(findstring routed-eni,$(c)),,--label-filter '!contract')

# Machines on stock kernels (e2e/vmrun): tests of features that a kernel may lack, and a run of each conflist with the
# flags in the .flags file beside it.
VMRUN := $(abspath $(BIN))/vmrun
VM := $(abspath $(BIN))/vm
VM_PLUGINS := macvlan ipvlan vrf ptp host-local route veth-to-host
VM_TESTS := ./e2e/snapshot ./e2e/agent ./e2e/backend/netns ./e2e/backend/internal/keeper ./e2e/service ./e2e/lab/event
VM_CONFLISTS := $(basename $(notdir $(wildcard e2e/vmrun/net.d/*.conflist)))

.PHONY: help runtimes spec-drift outdated test-requirements test-upstream test-field cri-tools cri-1-tools cri-17-tools test-cri e2e-cri e2e-cri-1 kind-node-image e2e-kind e2e-kind-upstream vagrant-box e2e-vagrant test-vm vm-controls build test test-netns e2e bench bench-plugins bench-ipamd bench-lab test-amazon flake stress schedules power fuzz soak lint verify generate clean test-examples track-record matrix build-thirdparty e2e-thirdparty kubernetes e2e-whereabouts node-programs e2e-production reports release fresh

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build cnitest, the reference plugins and the upstream plugins into bin/
	@echo "building cnitest and plugins into $(BIN)/ (the first time takes a minute or two)"
	$(GO) build -o $(BIN)/ $(stamp) ./e2e/cmd/cnitest $(PLUGINS)
	$(GO) build -o $(BIN)/ tool

e2e: build ## Run the suite on the reference plugins in network namespaces, and print a verdict for each conflist
	@status=0; $(foreach c,$(CONFLISTS),$(BIN)/cnitest run $(c) --bin-dir $(BIN) --report-dir $(ARTIFACTS)/$(report) $(E2E_FLAGS) $(profile) $(depth) || status=$$?; echo;) exit $$status

test: ## Run the tests; of the plugins broken on purpose a seventh, another one each day: SHARE=1/1 runs all
	CNITEST_SHARE=$(or $(SHARE),$(today)) $(GO) test -timeout 40m -ldflags=-w ./...

test-requirements: ## Check every requirement on every broken plugin, in a quarter of an hour; SHARE=3/20 runs a part
	$(GO) test -count=1 -timeout 2h -v -run '^TestBroken$$' ./e2e -all-requirements -share $(or $(SHARE),1/1)

test-upstream: ## Run each scenario on all upstream plugins that pass it; make test uses one of them
	$(GO) test -count=1 -timeout 1h -v -run '^TestUpstream$$' ./e2e -every-upstream

test-field: ## Run everything on configurations that people posted, in a quarter of an hour; needs root
	$(GO) test -count=1 -timeout 1h -v -run '^TestField$$' ./e2e -whole-field

runtimes: build ## Ask cnitool and the suite's own runtime for what the specification demands of runtimes
	@status=0; for r in cnitool cnitest; do $(BIN)/cnitest runtime $$r --bin-dir $(BIN) --expect e2e/duty/$$r.expected.yaml --report-dir $(ARTIFACTS)/runtime/$$r || status=$$?; echo; done; exit $$status

test-netns: ## Run only the tests of the lab, the suite and the plugins; needs root
	$(GO) test -timeout 40m ./e2e/... ./plugin/...

test-vm: build ## Test features that this kernel may lack, on a stock Debian kernel in a VM; KERNEL= selects another package
	@$(GO) build -o $(BIN)/ ./e2e/vmrun
	@mkdir -p $(VM) && ln -f $(VM_PLUGINS:%=$(BIN)/%) $(VM)/
	@$(GO) build -o $(VM)/broken ./e2e/broken/chained
	@$(VMRUN) --fetch
	CNITEST_WANT=dummy,ipvlan,vlan,vrf,bond,netem,ipvs,conntrack CNITEST_TEST_PLUGINS=$(VM) $(GO) test -count=1 -p 2 -timeout 5m -exec '$(VMRUN) --cpus 1 --with $(VM)' -run '_kinds|LinkKinds|_uplink|_conntrack|_restore|^Test(Traffic|Remove|Mark|NodePortAddresses)$$/^ipvs$$|^TestApply$$/./^ipvs$$' $(VM_TESTS)
	@$(MAKE) --no-print-directory -k -j2 --output-sync=target vm-controls $(VM_CONFLISTS:%=vm-%)

# What needs bonds, with a sound plugin and with one that is broken on purpose.
vm-controls:
	CNITEST_WANT=bond CNITEST_TEST_PLUGINS=$(VM) $(GO) test -count=1 -timeout 10m -exec '$(VMRUN) --cpus 1 --timeout 9m --with $(VM)' -v -run '^(TestControls|TestUpstream)$$/^(ports-once|ptp_on_a_node_in_production)$$/^bond' ./e2e

vm-%:
	@xargs -a e2e/vmrun/net.d/$*.flags $(VMRUN) --cpus 1 --timeout 9m --back $(ARTIFACTS)/vm/$* $(BIN)/cnitest run e2e/vmrun/net.d/$*.conflist --bin-dir $(VM) --workers 2 --report-dir $(ARTIFACTS)/vm/$*; status=$$?; echo; exit $$status

cri-tools: ## Build containerd and what else run --backend cri needs from Go modules into bin/cri/, in some minutes
	cri/build.sh $(BIN)/cri

cri-1-tools: cri-tools ## Unpack containerd 1.x and runc of Debian's packages into bin/cri-1/; nothing is installed
	cri/debian.sh $(BIN)/cri-1 $(BIN)/cri $(BIN)/loopback

test-cri: build cri-tools ## Run the shortest useful part of e2e-cri, in two minutes: what a runtime does by itself, with a sound and a broken plugin
	$(GO) test -count=1 -run '^TestCRI$$/(sound|macvlan_alone|needs-prevresult)' ./e2e -args -cri-tools $(abspath $(BIN))/cri

cri-17-tools: cri-tools ## Build containerd 1.7 from its Go module into bin/cri-17/, in some minutes
	cri/1.7/build.sh $(BIN)/cri-17 $(BIN)/cri $(BIN)/loopback

e2e-cri-1: build cri-1-tools cri-17-tools ## Run the reference chains with containerd 1.6 and 1.7, ask both for their duties, and replace them by 2.x under live pods; needs root, and Debian or Ubuntu
	@status=0; $(foreach t,cri-1 cri-17,$(BIN)/cnitest runtime containerd --cri-tools $(BIN)/$t --expect e2e/duty/containerd-1.expected.yaml --report-dir $(ARTIFACTS)/runtime/$t || status=$$?; echo; $(foreach r,macvlan-route macvlan-veth-to-host routed-eni,$(BIN)/cnitest run $(run_$(r)) --bin-dir $(BIN) --backend cri --cri-tools $(BIN)/$t --report-dir $(ARTIFACTS)/$t/$r || status=$$?; echo;) $(BIN)/cnitest run $(run_macvlan-route) --bin-dir $(BIN) --backend cri --old-cri-tools $(BIN)/$t --scenario runtime-upgraded || status=$$?; echo; $(GO) test -count=1 -run '^TestCRI_upgraded$$' ./e2e -args -cri-tools $(abspath $(BIN))/cri -old-cri-tools $(abspath $(BIN))/$t || status=$$?;) exit $$status

e2e-cri: build cri-tools ## Run the published conflists and broken plugins with a containerd on each node, and ask it for its duties; needs root
	@status=0; $(GO) test -count=1 -v -run '^TestCRI$$' ./e2e -args -cri-tools $(abspath $(BIN))/cri || status=$$?; echo; $(BIN)/cnitest runtime containerd --expect e2e/duty/containerd.expected.yaml --report-dir $(ARTIFACTS)/runtime/containerd || status=$$?; echo; $(foreach r,$(REPORTS),$(BIN)/cnitest run $(or $(cri_$(r)),$(run_$(r))) --bin-dir $(BIN) --backend cri --report-dir $(ARTIFACTS)/cri/$(r) || status=$$?; echo;) exit $$status

kind-node-image: ## Build kind, kubectl and a node image from Debian packages and Go modules, if no image registry is reachable
	kind/packages.sh
	kind/node-image/build.sh

e2e-kind: build ## Run the suite on a kind cluster with the reference plugins, in a separate Docker, and delete all of it
	kind/packages.sh
	kind/install/image.sh fetch
	$(GO) build -o $(BIN)/ ./kind/cnitest-chained
	$(if $(filter job,$(or $(KIND_CASES),job)),@$(MAKE) release)
	kind/with-docker.sh kind/e2e.sh $(KIND_CASES)

e2e-kind-upstream: build ## Run Kubernetes' own network tests on a kind cluster with macvlan + veth-to-host + portmap
	kind/packages.sh
	kind/upstream/build.sh
	kind/install/image.sh fetch
	kind/with-docker.sh kind/upstream/run.sh

vagrant-box: ## Build a small box from Debian packages for e2e-vagrant, for machines that cannot fetch a public one
	vagrant/e2e.sh box

e2e-vagrant: build ## Run the suite on two Vagrant machines, over ssh, and destroy them
	vagrant/e2e.sh run

bench: build ## Measure what six chains cost, write e2e/reports/bench-* and the tables; half an hour, or BENCH_TIME=1m for each
	@status=0; $(foreach r,$(REPORTS),$(BIN)/cnitest bench e2e/bench/net.d/$(r).conflist --bin-dir $(BIN) $(bench_$(r)) --duration $(BENCH_TIME) --out $(ARTIFACTS)/bench/$(r) && for f in html md json; do cp $(ARTIFACTS)/bench/$(r)/bench.$$f e2e/reports/bench-$(r).$$f || status=$$?; done || status=$$?; echo;) exit $$status
	@$(GO) test ./e2e/cmd/cnitest -run TestBenchmarks -update -count=1

bench-plugins: ## Measure the plugins' calls and compare with upstream's, with up to 3,000 attachments; needs root
	cd plugin/bench && $(GO) test -count=1 -timeout 20m -v -run TestCosts . -measure $(BENCH_FLAGS)

bench-lab: ## Measure clusters of 50 nodes, and of 20 nodes with 1,000 pods; needs root
	$(GO) test ./e2e/backend/netns -run xxx -bench Start_large -benchtime 1x

bench-ipamd: ## Compare ipamd's datastore with that of amazon-vpc-cni-k8s
	cd plugin/ipamd/bench && $(GO) test -run xxx -bench . -benchtime 300ms

test-amazon: ## Attach pods with amazon's plugin and this repository's ipamd; needs root, and the network for its module
	cd plugin/ipamd/amazon && $(GO) test -count=1 ./...

test-examples: ## Test the module in e2e/examples as its owner would; needs root
	$(MAKE) -C e2e/examples/thirdparty test

track-record: build ## Check that defects which users of other plugins met are caught, on the versions that had them; ROW=NAME checks one, STOCK=1 also those that need a stock kernel
	$(if $(STOCK),@$(GO) build -trimpath -o $(BIN)/ ./e2e/vmrun && $(VMRUN) --fetch)
	$(GO) run ./e2e/cmd/trackrecord --cnitest $(BIN)/cnitest $(if $(STOCK),--vm $(VMRUN)) $(ROW)

matrix: kubernetes ## Run the suite on each version of others' plugins, and put them side by side; ONLY=ptp,bridge VERSIONS=v1.9.1,v1.10.0 SHARD=1/4 run a part
	@$(MAKE) build GOFLAGS=-buildvcs=false
	$(GO) run ./e2e/cmd/matrix --cnitest $(BIN)/cnitest $(if $(ONLY),--plugins $(ONLY)) $(if $(VERSIONS),--versions $(VERSIONS)) $(if $(SHARD),--shard $(SHARD))

build-thirdparty: build
	cd plugin/ipamd/amazon && $(GO) build -o ../../../$(BIN)/ tool

e2e-thirdparty: build-thirdparty ## Run the suite on plugins of other projects and compare with the expected results
	@status=0; unfit=none; $(foreach c,$(THIRDPARTY),$(BIN)/cnitest run $(c) --bin-dir $(BIN) --expect $(expected) --quick --report-dir $(ARTIFACTS)/thirdparty/$(basename $(notdir $(c))) || { s=$$?; [ $$s = 3 ] && unfit="$$unfit $(notdir $(c))" || status=$$s; }; echo;) echo "cannot run on this machine, see above: $${unfit#none }"; exit $$status

kubernetes: ## Build etcd, kube-apiserver and kube-proxy into bin, for target files with `kubernetes` and --dataplane kube-proxy; the first time takes minutes
	cd kind/node-image && v=$$($(GO) list -m -f '{{.Version}}' k8s.io/kubernetes) && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$v" -o ../../$(BIN)/ k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-proxy && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o ../../$(BIN)/etcd go.etcd.io/etcd/server/v3

whereabouts := $(ARTIFACTS)/whereabouts

node-programs: ## Unpack firewalld, ufw, NetworkManager and udev of Debian's packages into ~/.cache/cnitest; nothing is installed
	@e2e/lab/debian/programs.sh

e2e-production: build node-programs ## Do to nodes what happens to them in production (networkd, NetworkManager, firewalld, udev, flapping links, …), under the reference plugins
	@status=0; $(foreach c,$(PRODUCTION),$(BIN)/cnitest run $(c) --bin-dir $(BIN) --profile production $(if $(findstring plugin/route/,$(c)),,--features PodToService$(comma)NodePort) --label-filter '/^Survives/' $(addprefix --expect ,$(wildcard $(dir $(patsubst %/,%,$(dir $(c))))production.expected.yaml)) --report-dir $(ARTIFACTS)/production/$(report) || status=$$?; echo;) exit $$status

e2e-whereabouts: build kubernetes ## Run the suite on macvlan with whereabouts and a Kubernetes API, and compare with the expected results
	mkdir -p $(whereabouts)/crds && cp e2e/thirdparty/whereabouts/macvlan.* $(whereabouts)/
	cd e2e/thirdparty/whereabouts && CGO_ENABLED=0 $(GO) build -o ../../../$(BIN)/whereabouts github.com/k8snetworkplumbingwg/whereabouts/cmd
	cp -f $$(cd e2e/thirdparty/whereabouts && $(GO) list -m -f '{{.Dir}}' github.com/k8snetworkplumbingwg/whereabouts)/doc/crds/*_*.yaml $(whereabouts)/crds/
	$(BIN)/cnitest run $(whereabouts)/macvlan.conflist --bin-dir $(BIN) --expect $(whereabouts)/macvlan.expected.yaml --quick --report-dir $(whereabouts)/report

reports: ## Write e2e/reports again: the report of each plugin, conformant or not, and the table; VERSION=v1.2.3 for a release
	@$(MAKE) build GOFLAGS=-buildvcs=false
	@status=0; $(foreach r,$(REPORTS),rm -rf $(published); $(BIN)/cnitest run $(run_$(r)) --bin-dir $(BIN) $(own_version) --report-dir $(published) || { s=$$?; [ $$s = 1 ] || status=$$s; }; rm -f $(published)/junit.xml $(published)/evidence/*.txt; rmdir $(published)/evidence 2>/dev/null; echo;) exit $$status
	@$(GO) test ./e2e/cmd/cnitest -run TestReports -update -count=1
	$(BIN)/cnitest report verify $(REPORTS:%=e2e/reports/%) --bin-dir $(BIN) $(if $(VERSION),,--unreleased)

release: ## Build cnitest for each architecture into dist/, with deb, rpm, an OCI image and checksums; VERSION=v1.2.3 names it
	@rm -rf $(DIST) && mkdir $(DIST)
	@$(foreach a,$(ARCHITECTURES),GOOS=linux GOARCH=$(a) $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.stamp=$(package_version)' -o $(DIST)/cnitest-linux-$(a) ./e2e/cmd/cnitest &&) true
	@cd .ci/release && $(GO) test ./... && $(GO) run . --dist $(abspath $(DIST)) --version $(package_version) --time $(RELEASE_TIME)
	@cd $(DIST) && sha256sum cnitest* > SHA256SUMS && cat SHA256SUMS

flake: build ## Run scenarios and requirements 20 times; every run must give the same results
	$(BIN)/cnitest run plugin/route/net.d/01-default-1.1.0.conflist --bin-dir $(BIN) --quick --repeat 20

stress: build ## Run the six published conflists 20 times beside busy loops, and 20 times beside other runs; TIMES=2 runs fewer
	$(GO) test -count=1 -timeout 1h -v -run '^TestLoad$$' ./e2e -load
	$(GO) run ./e2e/stress --cnitest $(BIN)/cnitest --times $(or $(TIMES),20) $(foreach r,$(REPORTS),'$(run_$(r)) --bin-dir $(BIN)')

schedules: build ## Try every schedule of two calls at once on the reference plugins, also with two stops
	@status=0; $(foreach r,macvlan-route macvlan-veth-to-host routed-eni,$(BIN)/cnitest run $(run_$(r)) --bin-dir $(BIN) --label-filter schedules --deep || status=$$?; echo;) exit $$status

fuzz: ## Fuzz every parser of what others wrote, a minute each; FUZZTIME=10m FUZZ=Attachment FUZZPROCS=1 change that
	@GO='$(GO)' FUZZTIME=$(FUZZTIME) FUZZ=$(FUZZ) FUZZPROCS=$(FUZZPROCS) .ci/fuzz

power: build ## Try every disk that a power cut may leave on the reference plugins and those beside them; a few minutes
	@status=0; $(foreach r,macvlan-route macvlan-veth-to-host routed-eni,$(BIN)/cnitest run $(run_$(r)) --bin-dir $(BIN) --label-filter power --deep || status=$$?; echo;) exit $$status

soak: build ## Let 200 pods come and go for a minute on two nodes of a cloud; no address may have two owners at any time
	$(BIN)/cnitest run plugin/routed-eni/net.d/10-routed-eni.conflist --target plugin/routed-eni/testdata/large-cloud.target.yaml --bin-dir $(BIN) --soak 60s --soak-pods 200

spec-drift: ## Compare a SPEC.md or CONVENTIONS.md (FILE=…) with the table of sentences, and print what is new
	@$(if $(FILE),,$(error want the path of a SPEC.md or CONVENTIONS.md: make spec-drift FILE=…))$(GO) run ./e2e/specdrift $(FILE)

outdated: ## List the direct dependencies, in each go.mod of the repository, that have a newer version
	@$(foreach m,$(MODULES),echo '$(m):'; (cd $(m) && $(GO) list -m -e -u -f '{{with .Update}}  {{$$.Path}} {{$$.Version}} -> {{.Version}}{{end}}' \
		$$($(GO) list -m -f '{{if not (or .Main .Indirect .Replace)}}{{.Path}}{{end}}' all) | grep . || true);)

lint: ## Run golangci-lint and govulncheck, both pinned in .ci, as is the vulnerability database
	@cd .ci/lint && $(GO) build -o $(abspath $(BIN))/lint/ tool
	@cd .ci/vuln && $(GO) build -o $(abspath $(BIN))/lint/ tool
	@cd .ci/vuln && $(abspath $(BIN))/lint/indexdb -vulns "$$($(GO) list -m -f '{{.Dir}}' golang.org/x/vulndb)/data/osv" -out $(abspath $(BIN))/lint/vulndb
	$(BIN)/lint/golangci-lint run ./...
	GOTOOLCHAIN=auto $(BIN)/lint/govulncheck -db file://$(abspath $(BIN))/lint/vulndb ./...

verify: ## Check formatting, generated tables, import rules, and sizes of files, functions, structs and lines
	@unformatted=$$(gofmt -l e2e plugin scenarios kind cri); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	@.ci/fresh --check
	@$(GO) test ./e2e/cmd/cnitest -run 'TestGenerated|TestImports|TestReports|TestBenchmarks|TestShape|TestWide|TestMisshapen' -count=1

generate: ## Write the generated tables into the READMEs
	@$(GO) test ./e2e/cmd/cnitest -run TestGenerated -update

fresh: ## Run targets as on a new machine: the cheap ones, all (FRESH=all), or some (FRESH='e2e test')
	@.ci/fresh $(FRESH)

clean: ## Remove binaries and reports
	rm -rf $(BIN) $(ARTIFACTS) $(DIST)
