# Shortcuts; go alone is enough to build and test. See CONTRIBUTING.md.

.PHONY: test race lint fuzz bench ci

test: ## the tests, as in the README
	go test ./...

race: ## the tests under the race detector (needs a C compiler)
	go test -race ./...

lint: ## format, vet, staticcheck, and the rules of lint_test.go
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...
	go test -run '^TestLint' .

FUZZ ?= .
FUZZTIME ?= 1m
PKG ?= ./wal
fuzz: ## one fuzz target: make fuzz PKG=./event FUZZ=FuzzParseWire FUZZTIME=10m
	go test -run '^$$' -fuzz '$(FUZZ)' -fuzztime $(FUZZTIME) $(PKG)

bench: ## DynGO beside other engines; says how long it will take
	cd bench && go run .

ci: ## all that must hold before a change lands
	.ci/run
