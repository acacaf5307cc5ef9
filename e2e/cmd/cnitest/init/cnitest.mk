# Conformance tests of a CNI plugin: make -f cnitest.mk cnitest, or include this file in your Makefile.
CNITEST ?= go run github.com/cnitest/cnitest/e2e/cmd/cnitest@<<.Version>>
CNITEST_BIN ?= bin

.PHONY: cnitest cnitest-build

cnitest: cnitest-build ## Attach pods with the plugin in network namespaces, and judge it
	$(CNITEST) run <<.Conflist>><<with .Network>> --network <<.>><<end>> --bin-dir $(CNITEST_BIN) --expect <<.Expected>> --report-dir _artifacts/cnitest

<<if .Go>># The plugins of others that the conflist names, such as host-local, are tools of go.mod:
# go get -tool github.com/containernetworking/plugins/plugins/ipam/host-local@v1.10.0
cnitest-build: ## Build the plugin and those that it needs into $(CNITEST_BIN)/
	CGO_ENABLED=0 go build -o $(CNITEST_BIN)/ ./...
	CGO_ENABLED=0 go build -o $(CNITEST_BIN)/ tool
<<- else>>cnitest-build: ## Build the plugin and those that it needs into $(CNITEST_BIN)/
	@test -x $(CNITEST_BIN)/<<.Type>> || { echo "no $(CNITEST_BIN)/<<.Type>>: write into cnitest.mk how it is built"; exit 1; }
<<- end>>
